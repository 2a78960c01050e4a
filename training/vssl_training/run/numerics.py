"""Switches that make a step faster on one device and slower on another."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from vssl_training.recipe.section import Section


class Numerics(Section):
    """What a run computes with, as its record keeps it: `--autotune` measures, and a resumed run does not change it.

    Attributes:
        channels_last: memory of images and convolutions with the channels together.
        bf16: matrix products and convolutions in bfloat16.
        compile: torch.compile of student and teacher.
        fused: the optimiser's step in one kernel.
    """

    channels_last: bool = True  # the default alone was measured: benchmarks/training_throughput.py
    bf16: bool = False
    compile: bool = False
    fused: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """Of images and convolutions."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def compiled(self, module: nn.Module) -> Any:  # noqa: ANN401 — torch.compile's own type is a callable
        """The module, compiled if that is on; its parameters and their names stay those of `module`."""
        return torch.compile(module) if self.compile else module

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Where forward passes run."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)

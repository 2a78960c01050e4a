"""Switches that make a step faster on one device and slower on another."""

from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from torch import nn

from vssl_training.recipe.section import Section


class Numerics(Section):
    """What a run computes with, as its record keeps it: those of its device, or what `--autotune` measures. A resumed
    run does not change it.

    Attributes:
        channels_last: memory of images and convolutions with the channels together.
        bf16: matrix products and convolutions in bfloat16.
        compile: torch.compile of student and teacher.
        fused: the optimiser's step in one kernel.
    """

    channels_last: bool = True  # on CPUs this alone was measured to pay: benchmarks/training_throughput.py
    bf16: bool = False
    compile: bool = False
    fused: bool = False

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """What a run takes without being told; a compilation takes minutes, so `--autotune` alone chooses it."""
        if device.type != "cuda":
            return cls()
        return cls(bf16=torch.cuda.is_bf16_supported(including_emulation=False), fused=True)

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


def prepare(device: torch.device) -> None:
    """Let a GPU round the factors of float32 products to TF32, and search for its fastest convolutions.

    Both are switches of the whole process. A CPU has neither.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True

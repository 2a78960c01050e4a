"""Activation checkpointing: what a block computes on the way is computed again in the backward pass, not kept.

Chen et al. 2016, arXiv 1604.06174. The gradients are the same.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(net: nn.Module) -> int:
    """Let each block of a network forget its activations; returns how many there are.

    A block is an element of a sequence that has inner modules with parameters.
    """
    found = list(_blocks(net))
    for block in found:
        block.forward = partial(_forgetful, block, block.forward)
    return len(found)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        inside = any(any(True for _ in inner.parameters()) for inner in child.children())
        if isinstance(module, nn.Sequential | nn.ModuleList) and inside:
            yield child
        else:
            yield from _blocks(child)


def _forgetful(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:  # noqa: ANN401
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, block), **named)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_as_they_are(block)


@contextmanager
def _statistics_as_they_are(block: nn.Module) -> Iterator[None]:
    """BatchNorm sees the same batch twice; its running statistics follow it once."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.training]
    for norm, _, batches in before:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if batches is None else batches.clone()
    try:
        yield
    finally:  # torch leaves by an exception once it has all that it needs
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches

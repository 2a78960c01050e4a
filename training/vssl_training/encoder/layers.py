"""The layers of any backbone in order, by the names of their parameters: what is trained, and how fast."""

from collections.abc import Iterator

from torch import nn

MOST = 0.25
"""Part of all parameters over which a sequence of blocks is taken apart."""


def layers_of(net: nn.Module) -> list[list[str]]:
    """Names of the parameters of each layer, the one nearest to the image first; every parameter is in one layer.

    A layer is a child of the network, or a block where a child with a large part of the parameters is a sequence of
    blocks. What has vectors alone, such as a norm, belongs to the layer before it.
    """
    matrices = {name for name, parameter in net.named_parameters() if parameter.ndim > 1}
    found: list[list[str]] = []
    for names in _parts(net, "", _count(net)):
        if found and matrices.isdisjoint(names):
            found[-1] += names
        else:
            found.append(names)
    return found


def _parts(module: nn.Module, prefix: str, total: int) -> Iterator[list[str]]:
    own = [prefix + name for name, _ in module.named_parameters(recurse=False)]
    if own:
        yield own
    for name, child in module.named_children():
        if _count(child) > MOST * total and _divisible(child):
            yield from _parts(child, f"{prefix}{name}.", total)
        elif names := [f"{prefix}{name}.{inner}" for inner, _ in child.named_parameters()]:
            yield names


def _divisible(module: nn.Module) -> bool:
    """Whether it is a sequence of blocks, or holds one; a block is what has inner modules with parameters."""
    blocks = isinstance(module, nn.Sequential | nn.ModuleList) and any(
        _count(inner) for child in module.children() for inner in child.children()
    )
    return blocks or any(map(_divisible, module.children()))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

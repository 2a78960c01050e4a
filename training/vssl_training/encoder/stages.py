"""The maps of a network's stages, seen by hooks: for networks that give their last features alone."""

from collections.abc import Sequence
from functools import partial
from math import isqrt

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vssl.errors import UsageError
from vssl_training.encoder.modes import evaluating

LEAST = 5
"""Stages, at least, that a network is cut into, if it can be: a stem and four that halve the map."""

MOST = 9
"""Stages, at most, that are kept: as many as EfficientNet has with its stem and its head."""


class Tap:
    """A forward hook that keeps the map that a module answers.

    An object with the store in it, so that a deep copy of the network writes to the copy's store.
    """

    def __init__(self, store: dict[str, Tensor], name: str) -> None:
        self.store = store
        self.name = name

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        """Keep the answer, or the first part of it."""
        first = output[0] if isinstance(output, (tuple, list)) else output
        if isinstance(first, Tensor) and first.ndim in (3, 4):
            self.store[self.name] = as_map(first)


class Stages:
    """Hooks on the stages of a network: their maps, after each call of it.

    Args:
        net: the network.
        size: side of the images in pixels by which the stages are found.
        names: of the modules that are its stages; without them they are found by `find_stages`.

    Raises:
        UsageError: the network does not take such images, or there is no such module.
    """

    def __init__(self, net: nn.Module, size: int, names: Sequence[str] | None = None) -> None:
        self.seen: dict[str, Tensor] = {}
        modules = dict(net.named_modules())
        if unknown := [name for name in names or () if name not in modules]:
            raise UsageError(f"the network has no module {unknown[0]}; it has {', '.join(list(modules)[1:8])}, …")
        outputs, self.answer = look(net, size)
        self.names = list(names or find_stages(net, outputs))
        if silent := [name for name in self.names if name not in outputs]:
            raise UsageError(f"the module {silent[0]} answers no map [N, C, H, W] and no tokens [N, L, C]")
        self.channels = tuple(outputs[name].shape[1] for name in self.names)
        for name in self.names:
            modules[name].register_forward_hook(Tap(self.seen, name))

    def take(self) -> tuple[Tensor, ...]:
        """The maps [N, C, H, W] of the last call of the network, which are then forgotten."""
        maps = tuple(self.seen.pop(name) for name in self.names)
        self.seen.clear()
        return maps


def as_map(values: Tensor) -> Tensor:
    """Maps [N, C, H, W] of maps, of maps with the channels last, or of tokens [N, L, C] of a square with others before.

    Images are square, so the sides that are alike are height and width.
    """
    if values.ndim == 4:
        return values.permute(0, 3, 1, 2) if values.shape[1] == values.shape[2] != values.shape[3] else values
    side = isqrt(values.shape[1])
    patches = values[:, values.shape[1] - side * side :]
    return patches.transpose(1, 2).reshape(len(values), -1, side, side)


@torch.no_grad()
def look(net: nn.Module, size: int) -> tuple[dict[str, Tensor], object]:
    """The maps of all modules in the order in which they end, and the whole answer.

    Without those of modules that only pass on what they are given, or average it to one place. Of two images on no
    device: only shapes are worked out.

    Raises:
        UsageError: the network does not take such images.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if not (inputs and inputs[0] is output):
            Tap(seen, name)(module, inputs, output)
            if name in seen and seen[name].shape[-2:].numel() == 1 and layers(module) == 0:
                del seen[name]

    handles = [module.register_forward_hook(partial(keep, name)) for name, module in net.named_modules() if name]
    try:
        with evaluating(net):
            return seen, nowhere(net, size)
    except Exception as error:  # a module of anybody's raises what it likes
        raise UsageError(f"the network can't take {size} px: {error}") from error
    finally:
        for handle in handles:
            handle.remove()


def nowhere(net: nn.Module, size: int) -> object:
    """What a network answers to two images, worked out in shapes alone; in numbers where it has tensors of its own."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    try:
        with torch.device("meta"):
            shapes = {key: value.to("meta") for key, value in tensors.items()}
            return functional_call(net, shapes, (torch.zeros(2, 3, size, size),))
    except Exception:  # a constant that is no buffer stays where it is, and is refused in many ways
        device = next(iter(tensors.values()), torch.empty(0)).device
        return net(torch.zeros(2, 3, size, size, device=device))


def find_stages(net: nn.Module, outputs: dict[str, Tensor]) -> list[str]:
    """Names of a network's stages: its own parts, the largest taken apart until there are `LEAST`; `MOST` of them.

    A convolution counts as one with the norm and the activation behind it.
    """
    cut = ordered(net, "", outputs)
    while len(stages := merged(net, cut)) < LEAST:
        parts = {name: ordered(net.get_submodule(name), f"{name}.", outputs) for name in cut}
        largest = max(cut, key=lambda name: (len(merged(net, parts[name])), len(parts[name])), default="")
        if len(parts.get(largest, [])) < 2:
            break
        cut = [each for name in cut for each in (parts[name] if name == largest else [name])]
    if len(stages) <= MOST:
        return stages
    return [stages[round(i * (len(stages) - 1) / (MOST - 1))] for i in range(MOST)]


def ordered(module: nn.Module, prefix: str, outputs: dict[str, Tensor]) -> list[str]:
    """Names of a module's parts that answer maps, in order of time. A list is not called itself: its items count."""
    names: list[str] = []
    for name, child in module.named_children():
        silent = prefix + name not in outputs and isinstance(child, (nn.ModuleList, nn.ModuleDict))
        names += ordered(child, f"{prefix}{name}.", outputs) if silent else [prefix + name]
    place = {name: i for i, name in enumerate(outputs)}
    return sorted((name for name in names if name in place), key=lambda name: place[name])


def merged(net: nn.Module, names: list[str]) -> list[str]:
    """The names, but of a part and the norms, activations and poolings behind it the last alone."""
    follows = [layers(net.get_submodule(name)) == 0 for name in names]
    return [name for name, last in zip(names, [not each for each in follows[1:]] + [True], strict=False) if last]


def layers(module: nn.Module) -> int:
    """Layers with weights that mix channels or places."""
    return sum(isinstance(each, (nn.Linear, nn.modules.conv._ConvNd)) for each in module.modules())

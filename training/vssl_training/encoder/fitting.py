"""Weights under others' names, fitted to a network: by name, by the rules of its library, or by order."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone, network_of

COUNTER = "num_batches_tracked"
"""BatchNorm's counter, which no inference reads and older files lack."""


@dataclass(frozen=True)
class Differences:
    """How weights differ from those that a network has: names that are missing, of another shape, and too many."""

    missing: list[str]
    other_shapes: list[str]
    surplus: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.other_shapes or self.surplus)

    def __len__(self) -> int:
        return len(self.missing) + len(self.other_shapes) + len(self.surplus)


def fit_weights(backbone: Backbone, weights: Mapping[str, Tensor], where: str, name: str) -> list[str]:
    """Load weights into a network that has no classifier.

    Args:
        backbone: the network.
        weights: tensors in the order in which their network has them, a classifier's and others' among them.
        where: what the weights come from, for messages.
        name: of the network, for messages.

    Returns:
        Lines about what was not a plain match of names.

    Raises:
        UsageError: they are of another network.
    """
    net, notes = network_of(backbone), list[str]()
    found, differences = by_name(without_prefix(weights, net), backbone)
    if differences and (ordered := by_order(weights, net)) is not None:
        found, differences = by_name(ordered, backbone)
        notes.append(
            f"{where}: its names are not those of {name}; its {len(ordered)} tensors were mapped in their order, and "
            "each has the shape and the kind (weight, bias, mean, variance) of the one in its place"
        )
    if differences:
        raise UsageError(f"{where}: {describe(differences, found, net, name)}")
    wanted = net.state_dict()
    net.load_state_dict({key: found.get(key, wanted[key]) for key in wanted})
    return notes


def compare(found: Mapping[str, Tensor], backbone: Backbone) -> Differences:
    """What `found` lacks and has too much; surplus is only what belongs to a part that the network has, too.

    So a classifier, or the head of another method, may be there; more blocks than the network has may not.
    """
    wanted = network_of(backbone).state_dict()
    parts = {key.split(".")[0] for key in wanted}
    missing = [key for key in wanted if key not in found and not key.endswith(COUNTER)]
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    surplus = [
        key
        for key in found
        if key not in wanted
        and "." in key
        and key.split(".")[0] in parts
        and not key.startswith(backbone.classifiers)
        and not key.endswith(COUNTER)
    ]
    return Differences(missing, shapes, surplus)


def without_prefix(weights: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The tensors by the network's names: without `module.`, `backbone.` or what else stands before most of those."""
    known = net.state_dict().keys()
    before = Counter(key.removesuffix(end) for key in weights for end in _ends(key) if end in known)
    prefix = max(before, key=lambda each: before[each], default="")
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _ends(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def by_name(weights: dict[str, Tensor], backbone: Backbone) -> tuple[dict[str, Tensor], Differences]:
    """The weights as they are or as the backbone converts them, whichever fits better, and what then does not fit."""
    forms = [weights]
    with suppress(Exception):  # rules for weights of the same family fail in any way on others
        forms.append(backbone.converted(weights))
    return min(((form, compare(form, backbone)) for form in forms), key=lambda pair: len(pair[1]))


def by_order(weights: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor] | None:
    """The weights by their place, if names say nothing and every tensor has the shape and kind of its counterpart.

    A classifier's weight and bias may follow at the end. A table of positions may have another length.
    """
    wanted = {key: value for key, value in net.state_dict().items() if not key.endswith(COUNTER)}
    given = {key: value for key, value in weights.items() if not key.endswith(COUNTER)}
    if len(given) not in (len(wanted), len(wanted) + 1, len(wanted) + 2) or wanted.keys() & given.keys():
        return None
    if any(value.ndim > 2 for value in list(given.values())[len(wanted) :]):
        return None
    pairs = list(zip(wanted.items(), given.items(), strict=False))
    if any(
        (own.shape != value.shape and "pos_embed" not in key) or key.rpartition(".")[2] != other.rpartition(".")[2]
        for (key, own), (other, value) in pairs
    ):
        return None
    return {key: value for (key, _), (_, value) in pairs}


def describe(differences: Differences, found: Mapping[str, Tensor], net: nn.Module, name: str) -> str:
    """The differences in a line."""
    wanted = net.state_dict()
    parts = []
    if differences.missing:
        parts.append(f"{len(differences.missing)} of {len(wanted)} tensors are missing ({_some(differences.missing)})")
    if differences.other_shapes:
        key = differences.other_shapes[0]
        shapes = f"{key} is {list(found[key].shape)}, {name} has {list(wanted[key].shape)}"
        parts.append(f"{len(differences.other_shapes)} have another shape ({shapes})")
    if differences.surplus:
        parts.append(f"{len(differences.surplus)} are of no part of {name} ({_some(differences.surplus)})")
    return f"not the weights of {name}: {'; '.join(parts)}. Name the architecture that they are of, or its own weights"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

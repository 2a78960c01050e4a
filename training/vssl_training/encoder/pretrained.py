"""Backbones that others have trained: found on this machine, read, fitted, and shown images as they know them."""

from dataclasses import dataclass
from pathlib import Path

from vssl_training.encoder.backbones import build_backbone, split_name
from vssl_training.encoder.features import Backbone
from vssl_training.encoder.fitting import fit_weights
from vssl_training.encoder.hf_net import read_config
from vssl_training.encoder.own_input import by_file, by_library
from vssl_training.encoder.sources import Found, find_weights
from vssl_training.recipe.sections import Recipe
from vssl_training.run.record import BackboneRecord


@dataclass(frozen=True)
class Pretrained:
    """A backbone with its weights.

    Attributes:
        recipe: with numbers in the place of every `auto`.
        backbone: normalises and answers as the model does that the weights are of.
        about: whose network it is.
        notes: lines to say about how the weights were fitted.
    """

    recipe: Recipe
    backbone: Backbone
    about: BackboneRecord
    notes: list[str]


def load_pretrained(recipe: Recipe, weights: str | Path | None) -> Pretrained:
    """The backbone that a recipe names, with weights.

    Args:
        recipe: names the backbone; what is `auto` in its `image` becomes what the model's own configuration says.
        weights: a file, a run, or `pretrained` to ask the hub of the model's library; None for those that are on this
            machine already.

    Raises:
        UsageError: there is no such backbone, no weights, or they are of another network.
    """
    kind, name = split_name(recipe.network.backbone)
    found = find_weights(kind, name, weights)
    settled = settle(recipe, found)
    backbone = build_backbone(settled)
    notes = fit_weights(backbone, found.tensors, str(found.file), recipe.network.backbone)
    about = BackboneRecord(source=kind, architecture=name, weights_sha256=found.sha256, licence=found.licence)
    return Pretrained(settled, backbone.eval(), about, notes)


def settle(recipe: Recipe, found: Found) -> Recipe:
    """The recipe as a run keeps it: with numbers in the place of every `auto` of its `image`, and transformers' config.

    The numbers are what the model knows that the weights are of.
    """
    kind, name = split_name(recipe.network.backbone)
    known = by_file(found.file, found.metadata) or by_library(kind, name, recipe.image)
    changes: dict[str, object] = {"image": recipe.image.settled(known)}
    if kind == "hf" and recipe.network.config is None:
        changes["network"] = recipe.network.model_copy(update={"config": read_config(Path(name))})
    return recipe.model_copy(update=changes)

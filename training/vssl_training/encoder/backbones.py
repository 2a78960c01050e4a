"""The backbone that a recipe names, built from the recipe alone: no weights, no network, nobody's folder."""

from torch import nn

from vssl_training.encoder.features import Backbone
from vssl_training.encoder.small_net import SmallNet
from vssl_training.encoder.timm_net import TimmNet
from vssl_training.recipe.sections import NetworkSettings, Recipe


def split_name(backbone: str) -> tuple[str, str]:
    """The library that a backbone's name means, and its name there: `vssl` for our own, `timm` where none is named."""
    kind, colon, name = backbone.partition(":")
    if colon:
        return kind, name
    return "vssl" if backbone == "small" else "timm", backbone


def build_backbone(recipe: Recipe) -> Backbone:
    """The backbone of a recipe, freshly initialised.

    Raises:
        UsageError: there is no such backbone.
    """
    image = recipe.image.settled()
    return _build_network(recipe).normalising(image.mean, image.std)


def _build_network(recipe: Recipe) -> Backbone:
    settings: NetworkSettings = recipe.network
    if settings.backbone == "small":
        return SmallNet(settings.width, settings.depth, settings.pool)
    return TimmNet(settings.backbone, recipe.size, settings.cifar_stem, other_sizes=len(recipe.sizes) > 1)


def network_of(backbone: Backbone) -> nn.Module:
    """The network that a backbone wraps, under whose names its weights are known; our own wraps none."""
    network = getattr(backbone, "net", None)
    return network if isinstance(network, nn.Module) else backbone

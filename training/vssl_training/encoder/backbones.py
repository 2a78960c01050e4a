"""The backbone that a recipe names, built from the recipe alone: no weights, no network, nobody's folder."""

from pathlib import Path

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone
from vssl_training.encoder.hf_net import HfNet, read_config
from vssl_training.encoder.small_net import SmallNet
from vssl_training.encoder.timm_net import TimmNet
from vssl_training.encoder.torchvision_net import TorchvisionNet
from vssl_training.recipe.sections import NetworkSettings, Recipe

LIBRARIES = ("timm", "torchvision", "hf", "module")


def split_name(backbone: str) -> tuple[str, str]:
    """The library that a backbone's name means, and its name there: `vssl` for our own, `timm` where none is named.

    Raises:
        UsageError: it names another one.
    """
    kind, colon, name = backbone.partition(":")
    if not colon:
        return "vssl" if backbone == "small" else "timm", backbone
    if kind not in LIBRARIES:
        raise UsageError(f"network.backbone: {backbone}: write NAME (of timm), torchvision:NAME or hf:FOLDER")
    return kind, name


def build_backbone(recipe: Recipe) -> Backbone:
    """The backbone of a recipe, freshly initialised.

    Raises:
        UsageError: there is no such backbone.
    """
    image = recipe.image.settled()
    return _build_network(recipe).normalising(image.mean, image.std)


def _build_network(recipe: Recipe) -> Backbone:
    settings: NetworkSettings = recipe.network
    kind, name = split_name(settings.backbone)
    if kind == "vssl":
        return SmallNet(settings.width, settings.depth, settings.pool)
    if kind == "torchvision":
        return TorchvisionNet(name, recipe.size)
    if kind == "hf":
        return HfNet(settings.config or read_config(Path(name)), recipe.size, settings.stages)
    if kind == "module":
        raise UsageError(
            f"network.backbone: {name} is a network of another program, which alone can build it: give it the module "
            "(`ExportOptions.module`, `load_embedder`)"
        )
    other_sizes = len(recipe.sizes) > 1
    return TimmNet(name, recipe.size, settings.cifar_stem, other_sizes, settings.stages)

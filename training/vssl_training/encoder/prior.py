"""A frozen pretrained network as the prior of a student, in the place of the moving average."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.backbones import build_backbone
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.objective.terms import Gaussian
from vssl_training.recipe.sections import ImageSettings, Recipe
from vssl_training.run.record import BackboneRecord


class Prior(nn.Module):
    """p_t(z|x) of a frozen backbone: its final features, centred on training images, with unit variance in each
    dimension on the sphere of radius √D.
    """

    centre: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("centre", torch.zeros(backbone.features))
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Gaussian:
        """Of float images [N, 3, S, S] in 0 … 1."""
        features: Features = self.backbone(x)
        mean = features.final - self.centre
        return Gaussian(mean, torch.zeros_like(mean))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Centre it on batches [n, 3, S, S] of images."""
        self.centre.copy_(torch.cat([self.backbone(batch).final for batch in batches]).mean(0))


def load_prior(recipe: Recipe) -> tuple[Prior, BackboneRecord, list[str]]:
    """The prior of a recipe that distils, with its weights; whose it is; and notes about how they were fitted.

    Raises:
        UsageError: there is no such backbone, no weights of it, or the student's mean has another dimension.
    """
    assert recipe.distil is not None
    found = load_pretrained(_as_prior(recipe), recipe.distil.weights)
    return _checked(found.backbone, recipe), found.about, found.notes


def build_prior(recipe: Recipe) -> Prior:
    """The same at random: for measuring how long a step takes, or for the weights of a checkpoint.

    Raises:
        UsageError: there is no such backbone, or the student's mean has another dimension.
    """
    return _checked(build_backbone(_as_prior(recipe)), recipe)


def _as_prior(recipe: Recipe) -> Recipe:
    """The recipe with the prior's backbone, which normalises pixels as its own weights want them."""
    assert recipe.distil is not None
    network = recipe.network.model_copy(update={"backbone": recipe.distil.backbone, "cifar_stem": False})
    image = ImageSettings.model_validate(recipe.image.model_dump() | {"mean": "auto", "std": "auto"})
    return recipe.model_copy(update={"network": network, "image": image})


def _checked(backbone: Backbone, recipe: Recipe) -> Prior:
    if backbone.features != recipe.network.dimension:
        raise UsageError(
            f"distil: its backbone has {backbone.features} features, and the student's mean must have as many: "
            f"set network.dimension={backbone.features}"
        )
    return Prior(backbone)

"""A frozen pretrained network as the prior of a student, in the place of the moving average."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.backbones import build_backbone
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.objective.terms import Gaussian
from vssl_training.recipe.pretrained_sections import DistilSettings
from vssl_training.recipe.sections import Recipe


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


def build_prior(recipe: Recipe, weights: bool) -> Prior:
    """The prior of a recipe that distils, with its `weights` or freshly initialised.

    Raises:
        UsageError: there is no such backbone, no weights of it, or the student's mean has another dimension.
    """
    settings = recipe.distil
    assert isinstance(settings, DistilSettings)
    network = recipe.network.model_copy(update={"backbone": settings.backbone, "cifar_stem": False})
    theirs = recipe.model_copy(update={"network": network, "image": recipe.image.model_copy(update=AUTOMATIC)})
    backbone = load_pretrained(theirs, settings.weights).backbone if weights else build_backbone(theirs)
    if backbone.features != recipe.network.dimension:
        raise UsageError(
            f"distil: {settings.backbone} has {backbone.features} features, and the student's mean must have as many: "
            f"set network.dimension={backbone.features}"
        )
    return Prior(backbone)


AUTOMATIC = {"mean": "auto", "std": "auto"}
"""The prior normalises pixels as its own weights want them, whatever the student does."""

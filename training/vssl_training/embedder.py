"""What a finished run is for: pixels → embedding, variance, uncertainty. Export writes exactly this module as ONNX."""

import torch
from torch import Tensor, nn

from vssl_training.network import Encoder, Features, SmallNet, VarianceHead, mlp
from vssl_training.objective import on_sphere
from vssl_training.recipe import Recipe


class Embedder(nn.Module):
    """Backbone, mean head and the variance head of the second phase."""

    def __init__(self, backbone: SmallNet, mean: nn.Module, log_variance: VarianceHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = mean
        self.log_variance = log_variance

    def posterior(self, features: Features) -> tuple[Tensor, Tensor]:
        """Mean on the sphere of radius √D and ℓ there, both [N, D], of the backbone's features of N images."""
        return on_sphere(self.mean(features.final)), self.log_variance(features.with_statistics())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [N, S, S, 3] → embedding [N, D] of unit length, variance e^ℓ / D [N, D], uncertainty [N].

        The uncertainty is mean_d log variance.
        """
        return self.with_features(images)[:3]

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `forward` answers, and the backbone's final features [N, F] that it follows from."""
        # To floats first: TensorRT takes uint8 as an input, and then nothing but a cast of it.
        features: Features = self.backbone(images.to(torch.float32).permute(0, 3, 1, 2) / 255)
        mean, log_variance = self.posterior(features)
        dimension = mean.shape[-1]
        variance = log_variance.exp() / dimension
        return mean / dimension**0.5, variance, variance.log().mean(-1), features.final


def build_encoder(recipe: Recipe) -> Encoder:
    """Student or teacher of a recipe, freshly initialised."""
    settings = recipe.network
    return Encoder(SmallNet(settings.width), settings.dimension, settings.hidden, settings.clamp)


def build_predictor(recipe: Recipe) -> nn.Sequential:
    """The predictor on the student's mean."""
    return mlp(recipe.network.dimension, recipe.network.hidden, recipe.network.dimension)


def build_variance_head(recipe: Recipe, backbone: SmallNet) -> VarianceHead:
    """The second phase's head, on the features with the statistics of the layers."""
    inputs = backbone.features_with_statistics
    return VarianceHead(inputs, recipe.variance.hidden, recipe.network.dimension, recipe.network.clamp)


def build_embedder(recipe: Recipe, encoder: Encoder | None = None) -> Embedder:
    """An embedder around an encoder (a fresh one by default) with a fresh variance head."""
    encoder = encoder or build_encoder(recipe)
    return Embedder(encoder.backbone, encoder.mean, build_variance_head(recipe, encoder.backbone))

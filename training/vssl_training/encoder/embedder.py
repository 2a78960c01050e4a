"""What a finished run is for: pixels → embedding, variance, uncertainty. Export writes exactly this module as ONNX."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vssl.arrays import Float32s, Pixels
from vssl.batch_sizes import PART_PIXELS, batch_images
from vssl.engine import Embeddings
from vssl.errors import UsageError
from vssl_training.encoder.backbones import build_backbone
from vssl_training.encoder.embedding import EmbeddingLayer, build_embedding, check_embedding, dimension_of
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.heads import DetailHead, StatisticsHead, VarianceHead, mlp
from vssl_training.encoder.modes import evaluating
from vssl_training.encoder.student import Encoder
from vssl_training.objective.terms import on_sphere
from vssl_training.recipe.sections import HeadSettings, Recipe


class Embedder(nn.Module):
    """Backbone, mean head and a variance head: that of the second phase, or (`joint`) the one of the first.

    `mean` is the encoder's head, or an `EmbeddingLayer`. The joint head sees the final features alone; the other one
    what `sees` says (`VarianceSettings.sees`), and `detail` of the images too, or not.
    """

    def __init__(
        self,
        backbone: Backbone,
        mean: nn.Module,
        log_variance: VarianceHead,
        joint: bool = False,
        detail: bool = True,
        sees: str = "all",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = mean
        self.log_variance = log_variance
        self.joint = joint
        self.detail = detail
        self.sees = sees

    def mean_of(self, features: Features) -> Tensor:
        """Mean [N, D] of the backbone's features of N images, of any length."""
        mean: Tensor = self.mean(features if isinstance(self.mean, EmbeddingLayer) else features.final)
        return mean

    @property
    def dimension(self) -> int:
        """D of the embedding."""
        return self.log_variance.dimension

    def head_input(self, features: Features) -> Tensor:
        """What the variance head sees of the backbone's features of N images, [N, its columns]."""
        return features.final if self.joint else features.seen(self.sees, self.detail)

    def posterior(self, features: Features) -> tuple[Tensor, Tensor]:
        """Mean on the sphere of radius √D and ℓ there, both [N, D], of the backbone's features of N images."""
        mean = self.mean_of(features)
        log_variance = self.log_variance(self.head_input(features))
        return on_sphere(mean), log_variance

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


def at_once(size: int, device: torch.device) -> int:
    """Images of `size` × `size` pixels in one call of a network that does not learn.

    On a CPU so few that what its layers answer stays in the caches: of larger blocks of memory the C library asks the
    system anew for each layer, which on a virtual machine took more than half of the time.
    """
    return batch_images(size, PART_PIXELS) if device.type == "cpu" else batch_images(size)


@torch.no_grad()
def embed(
    model: nn.Module,
    pixels: Pixels | Tensor,
    batch: int | None = None,
    answer: Callable[[Tensor], Sequence[Tensor]] | None = None,
) -> list[Float32s]:
    """What a model says of any number N ≥ 1 of images, batch by batch, in evaluation mode and on its device.

    Args:
        model: called on a batch of the images, it gives tensors [n, …].
        pixels: uint8 [N, S, S, 3], or what else the model takes.
        batch: images of one call, or as many as memory allows.
        answer: is called in the place of the model, to look at other things in it.

    Returns:
        Each of the tensors for all images, [N, …].
    """
    device, images = next(model.parameters()).device, torch.as_tensor(pixels)
    parts = torch.split(images, batch or at_once(images.shape[2], device))
    with evaluating(model):
        answers = [[values.cpu() for values in (answer or model)(part.to(device))] for part in parts]
    return [torch.cat(column).numpy() for column in zip(*answers, strict=True)]


def embeddings_of(embedder: Embedder, pixels: Pixels) -> Embeddings:
    """Embeddings of any number N ≥ 1 of images, uint8 [N, S, S, 3]."""
    return Embeddings(*embed(embedder, pixels))


def build_encoder(recipe: Recipe) -> Encoder:
    """Student or teacher of a recipe, freshly initialised."""
    return Encoder(build_backbone(recipe), recipe.network)


def build_predictor(recipe: Recipe) -> nn.Sequential:
    """The predictor on the student's mean, or nothing."""
    settings, dimension = recipe.network.predictor, recipe.network.dimension
    return nn.Sequential() if settings is None else mlp(dimension, settings, dimension)


def build_variance_head(recipe: Recipe, backbone: Backbone) -> VarianceHead:
    """The second phase's head, on what the recipe lets it see."""
    variance = recipe.variance
    settings = HeadSettings(hidden=variance.hidden)
    dimension, clamp = dimension_of(backbone, recipe.network), recipe.network.clamp
    if variance.sees != "all":
        return StatisticsHead(
            backbone.seen(variance.sees, variance.detail), settings, variance.dropout, dimension, clamp
        )
    kind = DetailHead if variance.detail else VarianceHead
    return kind(backbone.features_with_statistics, settings, dimension, clamp)


def build_embedder(recipe: Recipe, encoder: Encoder | None = None) -> Embedder:
    """An embedder around an encoder (a fresh one by default), with a fresh variance head or the encoder's own.

    An `EmbeddingLayer` is not fitted yet.
    """
    encoder = encoder or build_encoder(recipe)
    joint = recipe.variance.joint
    mean = build_embedding(encoder.backbone, recipe.network, encoder.mean)
    head = encoder.log_variance if joint else build_variance_head(recipe, encoder.backbone)
    return Embedder(encoder.backbone, mean, head, joint, recipe.variance.detail, recipe.variance.sees)


def check_network(recipe: Recipe) -> None:
    """Build the networks without memory and look at an image's way through them.

    Raises:
        UsageError: the backbone does not exist, does not take such images, or can't make such an embedding.
    """
    with torch.device("meta"):
        encoder = build_encoder(recipe)
        check_embedding(encoder.backbone, recipe.network)
        embedder = build_embedder(recipe, encoder)
        for size in recipe.sizes:
            try:
                embedder.posterior(embedder.backbone(torch.zeros(2, 3, size, size)))
            except (RuntimeError, ValueError, AssertionError) as error:
                raise UsageError(
                    f"network.backbone: {recipe.network.backbone} can't take {size} px: {error}"
                ) from error

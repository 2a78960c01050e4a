"""What a head is worth: its prediction beside the error that really happened, on images that it was not trained on."""

from dataclasses import dataclass

import numpy as np
import torch

from vssl.arrays import Float32s, Float64s, Floats, Integers
from vssl.bundle.calibration_record import Kind
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import rank_correlation
from vssl_training.attaching.cache import Cache
from vssl_training.attaching.choosing import vectors_of
from vssl_training.attaching.correcting import correct
from vssl_training.attaching.head import squared_errors
from vssl_training.encoder.embedder import Embedder
from vssl_training.encoder.embedding import EmbeddingLayer
from vssl_training.encoder.heads import StatisticsHead

DECILES = 10


@dataclass(frozen=True)
class KindFigures:
    """Of one kind of degradation: the mean squared distance `error` to the clean image's embedding (of unit length),
    `auroc` of degraded against clean images by u, and the number of `images`.
    """

    error: float
    auroc: float
    images: int


@dataclass(frozen=True)
class Judgement:
    """What u is worth as a prediction of the squared error.

    Attributes:
        correlation: Spearman's ρ of u with the real squared error, over clean images and all kinds together.
        deciles: mean predicted and mean real squared error of each tenth of the images, ordered by the prediction.
        kinds: figures of each kind.
    """

    correlation: float
    deciles: list[tuple[float, float]]
    kinds: dict[str, KindFigures]


def judge(uncertainty: Floats, predicted: Floats, error: Floats, kinds: Integers, names: tuple[str, ...]) -> Judgement:
    """Judge predictions for N pictures.

    Args:
        uncertainty: u [N].
        predicted: squared distance to the clean image's embedding as foretold, Σ_d of the variance [N].
        error: as it really was [N], 0 for clean images.
        kinds: number of the kind [N], −1 for clean images.
        names: of the kinds.
    """
    clean = uncertainty[kinds < 0]
    figures = {}
    for number, name in enumerate(names):
        rows = kinds == number
        if rows.any():
            figures[name] = KindFigures(float(error[rows].mean()), auroc(clean, uncertainty[rows]), int(rows.sum()))
    return Judgement(rank_correlation(uncertainty, error), deciles(predicted, error), figures)


def deciles(predicted: Floats, error: Floats) -> list[tuple[float, float]]:
    """Mean predicted and mean real error of each tenth, ordered by the prediction."""
    order = np.argsort(predicted, kind="stable")
    return [
        (float(predicted[rows].mean()), float(error[rows].mean()))
        for rows in np.array_split(order, DECILES)
        if len(rows)
    ]


def table(judgement: Judgement) -> list[str]:
    """The judgement for a person, a line each."""
    lines = [f"{'kind':<16} {'images':>6} {'error':>6} {'AUROC':>6}"]
    lines += [
        f"{name:<16} {kind.images:>6} {kind.error:>6.2f} {kind.auroc:>6.3f}" for name, kind in judgement.kinds.items()
    ]
    predicted, real = (" ".join(f"{pair[i]:6.3f}" for pair in judgement.deciles) for i in (0, 1))
    return [
        *lines,
        f"squared error by deciles of the prediction: predicted {predicted}",
        f"{'really':>53} {real}",
        f"rank correlation of u with the squared error: {judgement.correlation:.3f}",
    ]


@torch.no_grad()
def predicted(embedder: Embedder, cache: Cache) -> tuple[Float32s, Float64s]:
    """ℓ of a cache's pictures [N, 1 + C, D], before it is corrected, and the squared distance of each one's embedding,
    of unit length, to that of its clean image [N, 1 + C].
    """
    layer = embedder.mean
    assert isinstance(layer, EmbeddingLayer)
    rows = torch.from_numpy(cache.inputs).flatten(0, 1)
    head = embedder.log_variance
    assert isinstance(head, StatisticsHead)
    parts = [head.uncorrected(part.float()) for part in torch.split(rows, 4096)]
    log_variance = torch.cat(parts).view(*cache.inputs.shape[:2], -1)
    errors = squared_errors(torch.from_numpy(vectors_of(layer, cache))).double().mean(-1)
    return log_variance.numpy(), errors.numpy()


@torch.no_grad()
def correct_and_judge(embedder: Embedder, cache: Cache, names: tuple[str, ...]) -> Judgement:
    """Correct a network's head by the pictures of a cache that it was not trained on, and judge it on them.

    Each half of the images is judged with the head as the other half corrects it; at the end all have corrected it.
    """
    head = embedder.log_variance
    assert isinstance(head, StatisticsHead)
    log_variance, error = predicted(embedder, cache)
    even = np.arange(len(cache)) % 2 == 0
    corrected = np.empty_like(log_variance)
    for half in (even, ~even):
        correct(head, log_variance[~half].reshape(-1, embedder.dimension), error[~half].ravel())
        rows = torch.from_numpy(log_variance[half]).flatten(0, 1)
        corrected[half] = head.corrected(rows).view(*log_variance[half].shape).numpy()
    correct(head, log_variance.reshape(-1, embedder.dimension), error.ravel())
    foretold = np.exp(corrected.astype(np.float64)).mean(-1)
    return judge(corrected.mean(-1).ravel(), foretold.ravel(), error.ravel(), cache.kinds.ravel(), names)


@torch.no_grad()
def kinds_of(embedder: Embedder, cache: Cache, names: tuple[str, ...]) -> dict[str, Kind]:
    """By how much each kind moves the log variances, and how often a degraded picture is told to be of its kind.

    A picture is of the kind whose shift is nearest to its own. That is measured on every second image, with shifts of
    the others; the shifts that are kept are of all.
    """
    head = embedder.log_variance
    assert isinstance(head, StatisticsHead)
    uncorrected, _ = predicted(embedder, cache)
    rows = head.corrected(torch.from_numpy(uncorrected).flatten(0, 1))
    log_variance = rows.view(*uncorrected.shape).numpy()
    shifts = (log_variance[:, 1:] - log_variance[:, :1]).astype(np.float64)
    kinds, even = cache.kinds[:, 1:], np.arange(len(cache)) % 2 == 0
    known = {
        number: name
        for number, name in enumerate(names)
        if all((kinds[half] == number).any() for half in (even, ~even))
    }
    centres = np.stack([shifts[even][kinds[even] == number].mean(0) for number in known])
    told = np.square(shifts[~even][..., None, :] - centres).sum(-1).argmin(-1)
    right = np.array(list(known))[told] == kinds[~even]
    return {
        name: Kind(
            shift=[float(f"{value:.4g}") for value in shifts[kinds == number].mean(0)],
            accuracy=float(right[kinds[~even] == number].mean()),
        )
        for number, name in known.items()
    }

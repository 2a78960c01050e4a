"""What a head is worth: its prediction beside the error that really happened, on images that it was not trained on."""

from dataclasses import dataclass

import numpy as np
import torch

from vssl.arrays import Float32s, Float64s, Floats, Integers
from vssl.bundle.calibration_record import Kind
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import rank_correlation
from vssl.uncertainty.kinds import LEAST_CHANCE, fit_kinds, nearest_kind
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


def kinds_of(
    embedder: Embedder, own: Cache, held: Cache, names: tuple[str, ...]
) -> tuple[dict[str, Kind], list[list[float]]]:
    """By how much each kind moves the log variances, how often a picture told to be of a kind is, and discriminants.

    Shifts and discriminants are of the images that the head was trained on, for there are many. What guesses are worth
    is measured on those held back. Laplace's rule of succession makes that the lower the fewer guesses there are.
    """
    seen, there = (moved(embedder, cache) for cache in (own, held))
    kinds, real = own.kinds[:, 1:].ravel(), held.kinds[:, 1:].ravel()
    known, numbers = np.unique(kinds, return_inverse=True)
    shifts, discriminants = (rounded(each) for each in fit_kinds(seen, numbers))
    nearest, chances = nearest_kind(there, shifts, discriminants)
    told, sure = known[nearest], chances >= LEAST_CHANCE
    found = {}
    for number, shift in zip(known, shifts, strict=True):
        guesses = sure & (told == number)
        accuracy = (1 + int((guesses & (real == number)).sum())) / (2 + int(guesses.sum()))
        found[names[number]] = Kind(shift=shift.tolist(), accuracy=round(accuracy, 4))
    return found, discriminants.tolist()


@torch.no_grad()
def moved(embedder: Embedder, cache: Cache) -> Float64s:
    """Log variances of a cache's degraded pictures [N · C, D], less the mean of its clean ones."""
    head = embedder.log_variance
    assert isinstance(head, StatisticsHead)
    uncorrected, _ = predicted(embedder, cache)
    rows = head.corrected(torch.from_numpy(uncorrected).flatten(0, 1))
    log_variance = rows.view(*uncorrected.shape).double().numpy()
    degraded: Float64s = (log_variance[:, 1:] - log_variance[:, 0].mean(0)).reshape(-1, log_variance.shape[2])
    return degraded


def rounded(values: Float64s) -> Float64s:
    """To six digits, as they stand in a manifest."""
    told: Float64s = np.array([float(f"{value:.6g}") for value in values.ravel()]).reshape(values.shape)
    return told

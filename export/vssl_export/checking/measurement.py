"""What a precision costs and what it brings, measured on real images; and the limits that it is held to."""

import hashlib
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from vssl.arrays import Pixels
from vssl.bundle.manifest import Change, Difference, Parity, Precision
from vssl.engine import OUTPUTS, Embeddings, Engine
from vssl.errors import VsslError
from vssl.images.decoding import Preprocessing, decode
from vssl.measures.embeddings import knn_accuracy, knn_predict

REFERENCE = "reference.f32"
"""File of the bundle that holds what torch answered for the cards."""
SPEED_BATCHES = (1, 8, 32, 128)
SPEED_SECONDS = 0.2
"""Wall time of each measurement of speed."""


@dataclass(frozen=True)
class Limits:
    """What a precision is held to.

    Attributes:
        largest: |Δ| from torch in float32, of embeddings (of unit length), log variances and uncertainties alike.
        cosine: least mean cosine to fp32's embeddings.
        drop: most that kNN accuracy or R@1 may lose against fp32.
    """

    largest: float
    cosine: float
    drop: float


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(1e-3, 0.999999, 0.0),
    "fp16": Limits(0.02, 0.9999, 0.005),
    "int8": Limits(0.5, 0.99, 0.02),
}


def compare(ours: Embeddings, torchs: Embeddings, precision: Precision = "fp32") -> Parity:
    """Largest absolute differences between two answers for the same images.

    Raises:
        VsslError: one of them is over the precision's limit.
    """

    def largest(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
        return float(np.abs(a - b).max())

    with np.errstate(divide="ignore", invalid="ignore"):  # a variance of 0 or below is over every limit
        differences = {
            "embedding": largest(ours.embedding, torchs.embedding),
            "log_variance": largest(np.log(ours.variance), np.log(torchs.variance)),
            "uncertainty": largest(ours.uncertainty, torchs.uncertainty),
        }
    limit = LIMITS[precision].largest
    for name, difference in differences.items():
        if not difference <= limit:  # this way round, so that nan is refused too
            raise VsslError(
                f"ONNX Runtime's {name} in {precision} differs from torch's by {difference:.2g} (limit {limit:g})"
            )
    return Parity(images=len(ours), limit=limit, **differences)


def difference(ours: Embeddings, fp32: Embeddings, labels: npt.NDArray[np.int64] | None = None) -> Difference:
    """What one answer differs in from float32's, for the same images; with labels, what that costs.

    Raises:
        VsslError: an answer holds what is no number.
    """
    for answer in (ours, fp32):
        if not np.isfinite(answer.embedding).all() or not np.isfinite(answer.variance).all():
            raise VsslError("some embeddings or variances are not numbers")

    def change(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Change:
        distance = np.abs(a - b)
        return Change(max=float(distance.max()), mean=float(distance.mean()))

    lengths = np.linalg.norm(ours.embedding, axis=1) * np.linalg.norm(fp32.embedding, axis=1)
    cosine = (ours.embedding * fp32.embedding).sum(axis=1) / lengths
    judged = {}
    if labels is not None:
        judged = {name: value - _judge(fp32, labels)[name] for name, value in _judge(ours, labels).items()}
    return Difference(
        images=len(ours),
        embedding=change(ours.embedding, fp32.embedding),
        variance=change(ours.variance, fp32.variance),
        cosine_min=float(cosine.min()),
        cosine_mean=float(cosine.mean()),
        **judged,
    )


def over_limit(precision: Precision, found: Difference) -> str | None:
    """Which limit a difference from fp32 passes and by how much, or None.

    A lower accuracy is held against the precision where it is more than chance: by two standard errors of the number of
    answers that changed, which is at least the number lost.
    """
    limits = LIMITS[precision]
    if not found.cosine_mean >= limits.cosine:
        return f"the mean cosine of {precision} to fp32 is {found.cosine_mean:.5f}, under the limit of {limits.cosine}"
    for name, change in (("kNN accuracy", found.knn), ("R@1", found.recall_at_1)):
        if change is not None and -change - 2 * (abs(change) / found.images) ** 0.5 > limits.drop:
            return f"{name} in {precision} is {-change:.4f} lower than in fp32, over the limit of {limits.drop}"
    return None


def speeds(engines: Mapping[Precision, Engine], pixels: Pixels) -> dict[Precision, dict[str, float]]:
    """Images per second of each engine at each batch size, on these images repeated as far as needed, not decoded.

    At each size the engines take turns, so that a load that comes and goes tells little against one of them.
    """
    found: dict[Precision, dict[str, float]] = {precision: {} for precision in engines}
    for size in SPEED_BATCHES:
        batch = np.resize(pixels, (size, *pixels.shape[1:]))
        for precision, engine in engines.items():
            engine(batch)
            calls, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < SPEED_SECONDS:
                engine(batch)
                calls += 1
            found[precision][str(size)] = round(calls * size / elapsed, 1)
    return found


def card(mode: str) -> bytes:
    """A PNG of 320 × 240 with edges and gradients, on its side by EXIF; pillow's `mode` is RGB, RGBA or L."""
    y, x = np.mgrid[0:240, 0:320]
    channels = [x * 255 // 319, y * 255 // 239, (x ^ y) & 255, 255 - (x + y) // 3]
    image = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8), "RGBA").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def cards(preprocessing: Preprocessing) -> Pixels:
    """The pixels that the preprocessing makes of three cards, uint8 [3, S, S, 3]."""
    return np.stack([decode(card(mode), preprocessing) for mode in ("RGB", "RGBA", "L")])


def preprocessing_sha256(preprocessing: Preprocessing) -> str:
    """Hash of the cards' pixels here; the same wherever a bundle may be served."""
    return hashlib.sha256(cards(preprocessing).tobytes()).hexdigest()


def pack(answer: Embeddings) -> bytes:
    """An answer as `REFERENCE` holds it: float32, little-endian, all embeddings, then variances, then uncertainties."""
    return b"".join(getattr(answer, name).astype("<f4").tobytes() for name in OUTPUTS)


def unpack(data: bytes, dimension: int) -> Embeddings:
    """What `pack` made, for vectors of this dimension.

    Raises:
        VsslError: it is something else.
    """
    rows, rest = divmod(len(data), 4 * (2 * dimension + 1))
    if rest:
        raise VsslError(f"{REFERENCE} does not hold vectors of {dimension} numbers")
    numbers = np.frombuffer(data, "<f4").astype(np.float32)
    embedding, variance, uncertainty = np.split(numbers, [rows * dimension, 2 * rows * dimension])
    return Embeddings(embedding.reshape(rows, dimension), variance.reshape(rows, dimension), uncertainty)


def _judge(answer: Embeddings, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    vectors = answer.embedding
    nearest = knn_predict(vectors, vectors, labels, k=1, exclude_self=True)
    return {
        "knn": knn_accuracy(vectors, labels, vectors, labels, exclude_self=True),
        "recall_at_1": float((nearest == labels).mean()),
    }

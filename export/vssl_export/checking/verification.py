"""`vssl verify`: everything that a bundle promises, tried again on this machine. Needs no torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vssl.arrays import Pixels
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Engine
from vssl.errors import BundleError, VsslError
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import load_images, warn_of_missing
from vssl.sources.opening import open_source
from vssl_export.checking.cards import REFERENCE, cards, preprocessing_sha256, unpack
from vssl_export.checking.limits import LIMITS, compare, difference, over_limit, worth_telling

MOST_IMAGES = 1_000
"""Images of `--data` that are embedded in each precision."""


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and what was found."""

    name: str
    passed: bool
    found: str


def verify(location: Path, data: str | None) -> Iterator[Check]:
    """Check a bundle; with `data` (a folder, a .zip, `archive.zip::folder`) its precisions are compared on real images.

    Yields:
        `files`, `preprocessing`, then for each precision `signature PRECISION` and `outputs PRECISION`, then
        `parity fp32` with what torch answered at export and, with data, `parity PRECISION` with fp32. Where the files
        are not the manifest's, nothing else is looked at.

    Raises:
        UsageError: there is no bundle, or no image in `data`.
    """
    try:
        bundle = open_bundle(location)
    except BundleError as error:
        yield Check("files", False, str(error))
        return
    manifest = bundle.manifest
    yield Check("files", True, f"{len(manifest.files)} as hashed, bundle id {manifest.id[:12]}")
    yield _preprocessing(bundle)
    pixels, labels = _made_up(manifest.preprocessing), None
    if data is not None:
        source = open_source(data)
        images = load_images(source, manifest.preprocessing)
        warn_of_missing(source, images)
        chosen = np.linspace(0, len(images) - 1, min(MOST_IMAGES, len(images))).astype(int)
        pixels, labels = images.pixels[chosen], None if images.labels is None else images.labels[chosen]
    engines: dict[Precision, Engine] = {}
    for precision in manifest.models:
        yield _tried(f"signature {precision}", partial(_signature, bundle, precision, engines))
    for precision, engine in engines.items():
        yield _tried(f"outputs {precision}", partial(_outputs, engine, pixels, precision))
    if "fp32" not in engines:
        return
    if REFERENCE in manifest.files:
        yield _tried("parity fp32", partial(_parity_with_torch, bundle, engines["fp32"]))
    if data is None:
        return
    for precision in engines:
        if precision != "fp32":
            yield _tried(f"parity {precision}", partial(_parity, engines, precision, pixels, labels))


def _preprocessing(bundle: Bundle) -> Check:
    manifest = bundle.manifest
    if manifest.preprocessing_sha256 is None:
        return Check("preprocessing", True, "not recorded when this bundle was exported, not compared")
    if preprocessing_sha256(manifest.preprocessing) != manifest.preprocessing_sha256:
        found = "a test card becomes other pixels here than where the bundle was exported: compare the pillow versions"
        return Check("preprocessing", False, found)
    return Check("preprocessing", True, "a test card becomes the same pixels as where the bundle was exported")


def _signature(bundle: Bundle, precision: Precision, engines: dict[Precision, Engine]) -> str:
    engine = engines[precision] = Engine(bundle, precision=precision)
    return f"image uint8 [N, {engine.size}, {engine.size}, 3] → {engine.dimension} numbers, on {engine.providers[0]}"


def _outputs(engine: Engine, pixels: Pixels, precision: Precision) -> str:
    """The scales that the bundle's contract fixes, and that an image's answer does not depend on its batch."""
    limit = LIMITS[precision].largest
    answer = engine(pixels)
    if not (answer.variance > 0).all() or not np.isfinite(answer.variance).all():
        raise VsslError("a variance is not a positive number")
    rules = {
        "the length of an embedding is off 1": np.abs(np.linalg.norm(answer.embedding, axis=1) - 1),
        "uncertainty is off the mean log variance": np.abs(np.log(answer.variance).mean(1) - answer.uncertainty),
        "an embedding depends on its batch": np.abs(engine(pixels[:1]).embedding - answer.embedding[:1]),
    }
    for rule, off in rules.items():
        if not off.max() <= limit:
            raise VsslError(f"{rule} by {off.max():.2g} (limit {limit:g})")
    return f"unit embeddings, positive variances, uncertainty their mean logarithm, on {len(pixels)} images"


def _parity_with_torch(bundle: Bundle, engine: Engine) -> str:
    reference = unpack(bundle.read(REFERENCE), engine.dimension)
    pixels = cards(bundle.manifest.preprocessing)
    if len(reference) != len(pixels):
        raise VsslError(f"{REFERENCE} holds {len(reference)} answers for {len(pixels)} test cards")
    found = compare(engine(pixels), reference, limit=bundle.manifest.models["fp32"].parity.limit)
    return f"test cards as torch saw them at export, largest difference {found.embedding:.1g} (embedding)"


def _parity(
    engines: dict[Precision, Engine], precision: Precision, pixels: Pixels, labels: npt.NDArray[np.int64] | None
) -> str:
    change = difference(engines[precision](pixels), engines["fp32"](pixels), labels)
    wrong = over_limit(precision, change)
    if wrong is not None:
        raise VsslError(wrong)
    told = worth_telling(precision, change)
    return f"mean cosine to fp32 {change.cosine_mean:.5f} on {change.images} images" + (f"; {told}" if told else "")


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except VsslError as error:
        return Check(name, False, str(error))


def _made_up(preprocessing: Preprocessing) -> Pixels:
    """Where no images are at hand: noise, which is enough for what does not depend on the picture."""
    shape = (8, preprocessing.size, preprocessing.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

"""What an attached run keeps beside its weights: some images for export, and its calibration."""

import hashlib

import numpy as np

from vssl.arrays import Int64s
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import ImageSet
from vssl.uncertainty.calibrating import calibration_of
from vssl_training.attaching.cache import Cache
from vssl_training.attaching.copies import known_kinds
from vssl_training.attaching.judging import Judgement, kinds_of
from vssl_training.attaching.photographs import Photographs
from vssl_training.encoder.embedder import Embedder, embeddings_of
from vssl_training.loop.progress import Progress
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import SAMPLE, Run
from vssl_training.run.record import RunRecord, preprocessing_of

CORRUPTED = 100
"""Images held back that calibration degrades again, for each kind and severity."""

MOST_CALIBRATED = 2_000
"""Images held back that calibration reads at most: more tell nothing new of a hundred percentiles."""


def images_of(photographs: Photographs, numbers: Int64s, preprocessing: Preprocessing) -> ImageSet:
    """Some of the photographs, decoded."""
    pixels = np.stack([photographs.read(int(number), preprocessing) for number in numbers])
    return ImageSet(pixels, [photographs.names[number][1] for number in numbers], None, [], [])


def sha256_of(photographs: Photographs, looked: Cache) -> str:
    """Hash of which images a run is of, and of what the backbone said of them."""
    names = "\n".join(photographs.names[number][1] for number in looked.images)
    return hashlib.sha256(names.encode(errors="surrogateescape") + looked.inputs[:, 0].tobytes()).hexdigest()


def save_record(run: Run, record: RunRecord, photographs: Photographs, looked: Cache, judgement: Judgement) -> None:
    """Write what makes a folder a run: what was done, some images, and what the head is worth."""
    if not run.record_path.exists():
        run.start(record, images_of(photographs, looked.images[:SAMPLE], preprocessing_of(record.recipe)))
    run.metrics_path.unlink(missing_ok=True)
    run.log(phase="variance", step=0, held_back_rho=round(judgement.correlation, 4))


def save_calibration(
    run: Run, embedder: Embedder, recipe: Recipe, photographs: Photographs, looked: Cache, progress: Progress
) -> None:
    """Calibrate on the images held back; what a bundle will carry of it is written into the run."""
    kept = photographs.held(looked.images)
    own, held = looked.part(~kept), looked.part(kept)
    images = images_of(photographs, held.images[:MOST_CALIBRATED], preprocessing_of(recipe))
    progress.say(f"calibrating on {len(images):,} images that were held back")
    calibration, files = calibration_of(lambda pixels: embeddings_of(embedder, pixels), images, None, CORRUPTED)
    kinds, discriminants = kinds_of(embedder, own, held, known_kinds(recipe.variance.kinds))
    run.save_calibration(calibration.model_copy(update={"kinds": kinds, "discriminants": discriminants}), files)

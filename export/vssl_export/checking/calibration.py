"""`vssl calibrate`: a bundle measured on reference images, and written again with what was found."""

from pathlib import Path

from vssl.bundle.manifest import Manifest
from vssl.bundle.reading import open_bundle
from vssl.bundle.writing import replaceable, write_bundle
from vssl.engine import Engine
from vssl.errors import UsageError
from vssl.sources.in_memory import load_images, warn_of_missing
from vssl.sources.opening import open_source
from vssl.uncertainty.calibrating import calibration_of
from vssl.uncertainty.familiarity import FILE
from vssl.uncertainty.fitting import MIN_IMAGES


def calibrate(location: Path, data: str, use_labels: bool) -> Manifest:
    """Write the bundle at `location` again, whole or not at all, with its calibration on the images of `data`.

    Raises:
        UsageError: no bundle, no images or too few; no class folders although labels are to be used.
        BundleError: the bundle can't be trusted.
    """
    replaceable(location)
    bundle = open_bundle(location)
    source = open_source(data)
    images = load_images(source, bundle.manifest.preprocessing)
    warn_of_missing(source, images)
    if len(images) < MIN_IMAGES:
        raise UsageError(f"{data}: {len(images)} images are too few to calibrate on: at least {MIN_IMAGES}")
    if images.all_equal:
        raise UsageError(f"{data}: all of its images are the same picture; name images as different as those to come")
    labels = images.labels if use_labels else None
    if use_labels and labels is None:
        raise UsageError(f"{data}: no labels; --labels needs every image in one of at least two class folders")
    calibration, references = calibration_of(Engine(bundle), images, labels)
    before = bundle.manifest.calibration
    if before is not None:  # how kinds of degradation move the variance follows from the model, not from the images
        calibration = calibration.model_copy(update={"kinds": before.kinds, "discriminants": before.discriminants})
    fields = bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    files = {name: bundle.read(name) for name in bundle.manifest.files if name != FILE}
    return write_bundle(location, fields | {"calibration": calibration.model_dump(mode="json")}, files | references)

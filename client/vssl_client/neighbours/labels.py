"""The labels of a gallery, and what a match among them is worth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vssl.bundle.calibration_record import GalleryCalibration
from vssl.bundle.reading import open_bundle
from vssl.errors import UsageError
from vssl.images.names import numbered
from vssl.search.nearest import NEIGHBOURS
from vssl.uncertainty.fitting import calibration_rows, fit_matches
from vssl.uncertainty.matches import matches_of
from vssl_client.neighbours.gallery import Gallery
from vssl_client.parts.stored import iter_embeddings


@dataclass(frozen=True)
class Labels:
    """Class of each image of a gallery [G], the names of the classes, and what a match among them is worth."""

    numbers: npt.NDArray[np.int32]
    names: list[str]
    calibration: GalleryCalibration | None
    why_not: str | None = None


def read_labels(gallery: Gallery, bundle: Path | None) -> Labels:
    """The labels stored with the gallery, calibrated by a bundle, or else by a fit on the gallery itself.

    Where such a fit fails, `calibration` is None and `why_not` tells the reason.

    Raises:
        UsageError: no labels; the bundle is not the one that embedded the gallery, or has no such calibration;
            scikit-learn is not installed and no bundle named.
        VsslError: a part can't be read.
    """
    numbers, names = _numbered(gallery)
    if bundle is not None:
        manifest = open_bundle(bundle).manifest
        if manifest.id != gallery.origin.id:
            raise UsageError(f"{bundle}: is not the bundle that embedded the gallery; calibrate first, then embed")
        if manifest.calibration is None or manifest.calibration.gallery is None:
            raise UsageError(f"{bundle}: not calibrated with labels; `vssl calibrate {bundle} --data DIR --labels`")
        return Labels(numbers, names, manifest.calibration.gallery)
    try:
        rows = calibration_rows(len(numbers))
        vectors, uncertainty = gallery.vectors_of(rows)
        matches = matches_of(gallery.search(vectors, NEIGHBOURS, rows), uncertainty, numbers, len(names))
        return Labels(numbers, names, fit_matches(matches, numbers[rows], len(names)))
    except ModuleNotFoundError as error:
        raise UsageError(
            f"to calibrate on the gallery needs {error.name}: pip install 'vssl[calibrate]', or name a bundle "
            "that is calibrated with labels"
        ) from error
    except UsageError as error:
        return Labels(numbers, names, None, str(error))


def _numbered(gallery: Gallery) -> tuple[npt.NDArray[np.int32], list[str]]:
    codes: dict[str | None, int] = {}
    parts = [
        np.array([codes.setdefault(label, len(codes)) for label in part.labels], np.int32)
        for part in iter_embeddings(gallery.folder, ["label"])
    ]
    every, seen = np.concatenate(parts), list(codes)
    found = numbered(seen)
    if found is None:
        missing = int((every == codes[None]).sum()) if None in codes else 0
        what = "all have the same one" if len(every) else "it has no images"
        if missing:
            what = f"{missing:,} of its {len(every):,} images have none"
        raise UsageError(
            f"--labels needs a label for every image of the gallery, and at least two labels; {what}. `vssl embed` "
            "stores them: of class folders, or of .cls files in tar shards (an old folder has none: embed it again)"
        )
    sorted_numbers, names = found
    return np.array(sorted_numbers, np.int32)[every], names

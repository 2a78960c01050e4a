"""Embedded images looked up in a gallery of embedded images, and what each match is worth."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.bundle import open_bundle
from vssl.errors import UsageError
from vssl.fitting import fit_gallery
from vssl.gallery import Judgement, judge_matches, match
from vssl.manifest import GalleryCalibration
from vssl.measures import nearest
from vssl.sources import numbered
from vssl_client.stored import StoredEmbeddings, read_embeddings

Row = dict[str, Any]
JUDGED = ("p_correct", "interval", "action", "prediction_set", "alpha")


@dataclass(frozen=True)
class Labels:
    """Class of each image of a gallery [G], the names of the classes, and what a match among them is worth."""

    numbers: npt.NDArray[np.int64]
    names: list[str]
    calibration: GalleryCalibration | None
    why_not: str | None = None


def read_pair(queries: Path, gallery: Path) -> tuple[StoredEmbeddings, StoredEmbeddings]:
    """Both folders, which must come from one model.

    Raises:
        UsageError: a folder holds no embeddings, or they come from different models.
        VsslError: a part can't be read.
    """
    asked, stored = read_embeddings(queries), read_embeddings(gallery)
    if asked.origin.id != stored.origin.id:
        names = [f"{one.origin.model} {one.origin.version} ({one.origin.id[:12]})" for one in (asked, stored)]
        raise UsageError(
            f"{queries} was embedded by {names[0]}, {gallery} by {names[1]}: embed both with one bundle "
            "(to calibrate a bundle changes its id, so calibrate first)"
        )
    return asked, stored


def read_labels(gallery: StoredEmbeddings, bundle: Path | None) -> Labels:
    """Labels that are stored with the gallery; their calibration from a bundle, or else fitted on the gallery itself.

    Where the gallery can't be calibrated on, `calibration` is None and `why_not` tells the reason.

    Raises:
        UsageError: no labels; the bundle is not the one that embedded the gallery, or has no such calibration;
            scikit-learn is not installed and no bundle named.
    """
    found = numbered(gallery.labels)
    if found is None:
        missing = gallery.labels.count(None)
        what = f"{missing:,} of its {len(gallery):,} images have none" if missing else "all have the same one"
        raise UsageError(
            f"--labels wants a label for every image of the gallery, and at least two labels; {what}. `vssl embed` "
            "stores them: of class folders, or of .cls files in tar shards (an old folder has none: embed it again)"
        )
    numbers, names = np.array(found[0]), found[1]
    if bundle is not None:
        manifest = open_bundle(bundle).manifest
        if manifest.id != gallery.origin.id:
            raise UsageError(f"{bundle}: is not the bundle that embedded the gallery; calibrate first, then embed")
        if manifest.calibration is None or manifest.calibration.gallery is None:
            raise UsageError(f"{bundle}: not calibrated with labels; `vssl calibrate {bundle} --data DIR --labels`")
        return Labels(numbers, names, manifest.calibration.gallery)
    try:
        return Labels(numbers, names, fit_gallery(gallery.embedding, gallery.uncertainty, numbers, len(names)))
    except ModuleNotFoundError as error:
        raise UsageError(
            f"to calibrate on the gallery needs {error.name}: pip install 'vssl[calibrate]', or name a bundle "
            "that is calibrated with labels"
        ) from error
    except UsageError as error:
        return Labels(numbers, names, None, str(error))


def rows(
    queries: StoredEmbeddings,
    gallery: StoredEmbeddings,
    k: int,
    labels: Labels | None,
    alpha: str,
    risk: str,
    exclude_self: bool,
) -> Iterator[Row]:
    """One row a query: its k neighbours, and what can be said of the nearest one; null what can't."""
    judged: Judgement | None = None
    if labels is None:
        found = nearest(queries.embedding, gallery.embedding, k, exclude_self)
    else:
        matches = match(
            queries.embedding,
            queries.uncertainty,
            gallery.embedding,
            labels.numbers,
            len(labels.names),
            k,
            exclude_self,
        )
        found = matches.neighbours
        if labels.calibration is not None:
            lot = np.array([lot_of(path) for path in queries.paths])
            ood = None if queries.flags is None else queries.flags["ood"]
            judged = judge_matches(labels.calibration, matches, alpha, risk, lot, ood)
    for row, path in enumerate(queries.paths):
        chosen = zip(found.rows[row, :k].tolist(), found.similarity[row, :k].tolist(), strict=True)
        neighbours: list[Row] = [{"path": gallery.paths[i], "similarity": round(near, 6)} for i, near in chosen]
        if labels is not None:
            for neighbour, i in zip(neighbours, found.rows[row, :k].tolist(), strict=True):
                neighbour["label"] = labels.names[labels.numbers[i]]
        yield {
            "path": path,
            "uncertainty": float(queries.uncertainty[row]),
            "flags": None if queries.flags is None else {name: bool(of[row]) for name, of in queries.flags.items()},
            "neighbours": neighbours,
            "label": None if labels is None else neighbours[0]["label"],
            **_worth(judged, row, labels, alpha),
        }


def _worth(judged: Judgement | None, row: int, labels: Labels | None, alpha: str) -> Row:
    if judged is None or labels is None:
        return dict.fromkeys(JUDGED)
    return {
        "p_correct": round(float(judged.p_correct[row]), 4),
        "interval": [round(float(end[row]), 4) for end in (judged.low, judged.high)],
        "action": judged.actions[row],
        "prediction_set": [name for name, inside in zip(labels.names, judged.sets[row], strict=True) if inside],
        "alpha": float(alpha),
    }


def lot_of(path: str) -> float:
    """A number in [0, 1) that settles ties: uniform over paths, and always the same for one."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=6).digest()) / 2**48


def told(row: Row) -> str:
    """A row for a person to read: a line for the query, then one for each neighbour."""
    head = [row["path"], f"uncertainty {row['uncertainty']:.3f}"]
    head += [name for name, raised in (row["flags"] or {}).items() if raised]
    if row["p_correct"] is not None:
        low, high = row["interval"]
        head += [f"{row['action']} {row['label']}, p {row['p_correct']:.2f} ({low:.2f} to {high:.2f})"]
        head += [f"set at {row['alpha']:g}: {', '.join(row['prediction_set']) or 'none'}"]
    lines = ["  ".join(head)]
    lines += [f"  {one['similarity']:.4f}  {one['path']}" for one in row["neighbours"]]
    return "\n".join(lines)

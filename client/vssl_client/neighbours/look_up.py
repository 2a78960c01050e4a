"""Embedded images looked up in a gallery of embedded images, and what each match is worth.

Both folders are read part by part, and of each part the columns that are used: neither need fit into memory.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.arrays import Floats, Integers
from vssl.bundle.calibration_record import GalleryCalibration
from vssl.bundle.reading import open_bundle
from vssl.errors import UsageError
from vssl.images.names import numbered
from vssl.search.nearest import NEIGHBOURS, Neighbours, NeighbourSearch
from vssl.uncertainty.fitting import calibration_rows, fit_matches
from vssl.uncertainty.matches import apply_gallery_calibration, matches_of
from vssl_client.parts.formats import find_parts
from vssl_client.parts.rows import Origin
from vssl_client.parts.stored import StoredEmbeddings, iter_embeddings

Row = dict[str, Any]
JUDGED = ("p_correct", "interval", "action", "prediction_set", "alpha")

QUERIES = 16_384
"""Queries that are looked up in one pass over the gallery."""

JUDGED_AT_ONCE = 1024
"""Queries whose votes are held at a time: a number for each label and each of them."""


@dataclass(frozen=True)
class Labels:
    """Class of each image of a gallery [G], the names of the classes, and what a match among them is worth."""

    numbers: npt.NDArray[np.int32]
    names: list[str]
    calibration: GalleryCalibration | None
    why_not: str | None = None


@dataclass(frozen=True)
class Gallery:
    """A folder to look images up in, read as often as needed."""

    folder: Path
    origin: Origin

    def search(self, queries: Floats, k: int, own: Integers | None) -> Neighbours:
        """The k nearest of each query [Q, D] but its own row, in one pass over the vectors.

        Raises:
            UsageError: the folder holds no other image.
            VsslError: a part can't be read.
        """
        search = NeighbourSearch(queries, k, own)
        for part in iter_embeddings(self.folder, ["embedding"]):
            search.add(part.embedding)
        return search.found()

    def paths(self, rows: Integers) -> dict[int, str]:
        """The paths of some rows."""
        wanted = np.unique(rows)
        return {row: part.paths[at] for part, row, at in self._each(wanted, ["path"])}

    def asking(self, rows: Integers) -> tuple[Floats, Floats]:
        """The vectors [N, D] and the uncertainties [N] of some rows, in order."""
        found = [
            (part.embedding[at], part.uncertainty[at]) for part, _, at in self._each(rows, ["embedding", "uncertainty"])
        ]
        return np.stack([vector for vector, _ in found]), np.array([uncertainty for _, uncertainty in found])

    def _each(self, rows: Integers, columns: Collection[str]) -> Iterator[tuple[StoredEmbeddings, int, int]]:
        """Each of some sorted rows: the part it is in, itself, and its place in the part."""
        first = 0
        for part in iter_embeddings(self.folder, columns):
            here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(part))]
            yield from ((part, row, row - first) for row in here.tolist())
            first += len(part)


def open_gallery(queries: Path, gallery: Path) -> Gallery:
    """The gallery, which must come from the model that embedded the queries.

    Raises:
        UsageError: a folder holds no embeddings, or they come from different models.
        VsslError: a part can't be read.
    """
    origins = []
    for folder in (queries, gallery):
        format, parts = find_parts(folder)
        origins.append(format.read_origin(parts[0]))
    asked, stored = origins
    if asked.id != stored.id:
        names = [f"{one.model} {one.version} ({one.id[:12]})" for one in origins]
        raise UsageError(
            f"{queries} was embedded by {names[0]}, {gallery} by {names[1]}: embed both with one bundle "
            "(to calibrate a bundle changes its id, so calibrate first)"
        )
    return Gallery(gallery, stored)


def read_labels(gallery: Gallery, bundle: Path | None) -> Labels:
    """Labels that are stored with the gallery; their calibration from a bundle, or else fitted on the gallery itself.

    Where the gallery can't be calibrated on, `calibration` is None and `why_not` tells the reason.

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
        vectors, uncertainty = gallery.asking(rows)
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
            f"--labels wants a label for every image of the gallery, and at least two labels; {what}. `vssl embed` "
            "stores them: of class folders, or of .cls files in tar shards (an old folder has none: embed it again)"
        )
    sorted_numbers, names = found
    return np.array(sorted_numbers, np.int32)[every], names


def looked_up(
    queries: Path, gallery: Gallery, k: int, labels: Labels | None, alpha: str, risk: str, failures: list[int]
) -> Iterator[Row]:
    """One row a query: its k neighbours, and what can be said of the nearest one; null what can't.

    Queries that are the gallery's own images don't find themselves. To `failures` goes, part by part, how many images
    have no embedding and so no row.

    Raises:
        UsageError: the gallery holds no image to compare with.
        VsslError: a part can't be read.
    """
    same, first = queries.resolve() == gallery.folder.resolve(), 0
    for parts in _blocks(queries, failures):
        count = sum(map(len, parts))
        own = np.arange(first, first + count) if same else None
        vectors = np.concatenate([part.embedding for part in parts])
        found = gallery.search(vectors, k if labels is None else max(k, NEIGHBOURS), own)
        paths = gallery.paths(found.rows[:, :k])
        start = 0
        for part in parts:
            for begin in range(0, len(part), JUDGED_AT_ONCE):
                rows = slice(begin, min(begin + JUDGED_AT_ONCE, len(part)))
                among = slice(start + rows.start, start + rows.stop)
                some = Neighbours(found.rows[among], found.similarity[among])
                yield from _told(part, rows, some, k, paths, labels, alpha, risk)
            start += len(part)
        first += count


def _blocks(queries: Path, failures: list[int]) -> Iterator[list[StoredEmbeddings]]:
    """Parts of the queries, as many as are looked up at once."""
    block: list[StoredEmbeddings] = []
    for part in iter_embeddings(queries, ["path", "embedding", "uncertainty", "flags"]):
        failures.append(len(part.failures))
        block.append(part)
        if sum(map(len, block)) >= QUERIES:
            yield block
            block = []
    if sum(map(len, block)):
        yield block


def _told(
    part: StoredEmbeddings,
    rows: slice,
    found: Neighbours,
    k: int,
    paths: dict[int, str],
    labels: Labels | None,
    alpha: str,
    risk: str,
) -> Iterator[Row]:
    """The rows of some queries of a part."""
    flags = None if part.flags is None else {name: of[rows] for name, of in part.flags.items()}
    worth = _worth(part, rows, found, labels, alpha, risk)
    for row, path in enumerate(part.paths[rows]):
        chosen = zip(found.rows[row, :k].tolist(), found.similarity[row, :k].tolist(), strict=True)
        neighbours: list[Row] = [{"path": paths[i], "similarity": round(near, 6)} for i, near in chosen]
        if labels is not None:
            for neighbour, i in zip(neighbours, found.rows[row, :k].tolist(), strict=True):
                neighbour["label"] = labels.names[labels.numbers[i]]
        yield {
            "path": path,
            "uncertainty": float(part.uncertainty[rows][row]),
            "flags": None if flags is None else {name: bool(of[row]) for name, of in flags.items()},
            "neighbours": neighbours,
            "label": None if labels is None else neighbours[0]["label"],
            **worth[row],
        }


def _worth(
    part: StoredEmbeddings, rows: slice, found: Neighbours, labels: Labels | None, alpha: str, risk: str
) -> list[Row]:
    """What each match is worth."""
    if labels is None or labels.calibration is None:
        return [dict.fromkeys(JUDGED)] * len(found.rows)
    matches = matches_of(found, part.uncertainty[rows], labels.numbers, len(labels.names))
    tie_break = np.array([tie_break_of(path) for path in part.paths[rows]])
    ood = None if part.flags is None else part.flags["ood"][rows]
    judged = apply_gallery_calibration(labels.calibration, matches, alpha, risk, tie_break, ood)
    return [
        {
            "p_correct": round(float(judged.p_correct[row]), 4),
            "interval": [round(float(end[row]), 4) for end in (judged.low, judged.high)],
            "action": judged.actions[row],
            "prediction_set": [labels.names[label] for label in np.flatnonzero(judged.sets[row])],
            "alpha": float(alpha),
        }
        for row in range(len(found.rows))
    ]


def tie_break_of(path: str) -> float:
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

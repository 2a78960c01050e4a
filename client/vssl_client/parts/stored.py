"""Folders of embeddings read back, in any format."""

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from vssl.arrays import Float32s
from vssl.errors import UsageError, VsslError
from vssl.objects.path import AnyPath, path_of
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.formats.columns import COLUMNS, Columns, Origin
from vssl_client.formats.contract import Format
from vssl_client.parts.finding import find_parts
from vssl_client.results.result import Flags

NAMES = {"path": "paths", "label": "labels", "sha256": "hashes", "size": "sizes"}
"""Columns whose attributes have a plural name, since an attribute holds all rows."""


class StoredEmbeddings:
    """M embedded images of a folder of parts, in the order of their source.

    Attributes:
        paths: M paths relative to the source.
        embedding: float32 [M, D].
        variance: float32 [M, D]; NaN where it was not wanted.
        uncertainty: float32 [M].
        percentile: float32 [M], or None without a calibration.
        confidence: float32 [M], or None without a calibration.
        familiarity: float32 [M], or None without reference vectors.
        flags: `degraded`, `ood` and `unfamiliar`, bool [M] each, or None without a calibration.
        labels: M labels, None for an image without one.
        hashes: M SHA-256 of the files, in hexadecimal.
        sizes: int64 [M], bytes of the files.
        failures: (path, reason) of each other image.
        origin: the model and the source.

    Raises:
        AttributeError: a column that was not read.
    """

    paths: list[str]
    embedding: Float32s
    variance: Float32s
    uncertainty: Float32s
    percentile: Float32s | None
    confidence: Float32s | None
    familiarity: Float32s | None
    flags: Flags | None
    labels: list[str | None]
    hashes: list[str | None]
    sizes: "np.ndarray[Any, np.dtype[np.int64]]"

    def __init__(self, origin: Origin, count: int, columns: Columns, failures: list[tuple[str, str]]) -> None:
        self.origin, self.failures, self._count = origin, failures, count
        for name, values in columns.items():
            setattr(self, NAMES.get(name, name), values)

    def __len__(self) -> int:
        return self._count

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name!r} is not there: no such column, or one that `columns` left out")

    def __repr__(self) -> str:
        origin = self.origin
        return (
            f"<{len(self):,} embeddings of {origin.source}, {origin.dimension} numbers each, by {origin.model} version "
            f"{origin.version} (id {origin.id[:12]}); {len(self.failures):,} failed>"
        )


def read_embeddings(folder: str | os.PathLike[str], columns: Collection[str] = COLUMNS) -> StoredEmbeddings:
    """Read every part of a folder that `vssl embed` wrote.

    Args:
        folder: with parts of any of its formats; `s3://BUCKET/FOLDER` too.
        columns: the columns to read, by their names in the files; by default all.

    Raises:
        UsageError: there are no parts, or there is no such column.
        VsslError: a part can't be read, or comes from another model than the first one.
    """
    parts = list(iter_embeddings(folder, columns))
    return StoredEmbeddings(
        parts[0].origin,
        sum(map(len, parts)),
        {name: _together([getattr(part, NAMES.get(name, name)) for part in parts], parts) for name in set(columns)},
        [failure for part in parts for failure in part.failures],
    )


def iter_embeddings(folder: str | os.PathLike[str], columns: Collection[str] = COLUMNS) -> Iterator[StoredEmbeddings]:
    """The same part by part, in memory that does not grow with the folder. Only the named columns are read.

    >>> for part in iter_embeddings("embeddings", columns=["path", "embedding"]):  # doctest: +SKIP
    ...     index.add(part.paths, part.embedding)
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise UsageError(f"column {unknown[0]!r} is not one of {', '.join(COLUMNS)}")
    return _each(*find_parts(path_of(folder)), columns)


def _each(format: Format, parts: list[AnyPath], columns: Collection[str]) -> Iterator[StoredEmbeddings]:
    first: Origin | None = None
    for part in parts:
        origin = format.read_origin(part)
        first = first or origin
        if origin != first:
            raise VsslError(f"{part}: comes from another model or source than {parts[0].name}")
        found = format.read_part(part, {*columns, "error"})
        errors = found["error"]
        bad = [row for row, error in enumerate(errors) if error is not None]
        failures: list[tuple[str, str]] = []
        if bad:
            paths = found["path"] if "path" in found else format.read_part(part, ["path"])["path"]
            failures = [(paths[row], errors[row]) for row in bad]
            good = np.array([error is None for error in errors])
            found = {name: _selected(values, good) for name, values in found.items()}
        wanted = {name: found[name] for name in columns}
        yield StoredEmbeddings(origin, len(errors) - len(bad), wanted, failures)


def _selected(values: Any, good: "np.ndarray[Any, np.dtype[np.bool_]]") -> Any:  # noqa: ANN401 — see `Columns`
    if values is None:
        return None
    if isinstance(values, dict):
        return {name: of[good] for name, of in values.items()}
    return [values[row] for row in np.flatnonzero(good)] if isinstance(values, list) else values[good]


def _together(values: Sequence[Any], parts: Sequence[StoredEmbeddings]) -> Any:  # noqa: ANN401 — likewise
    """One column of all parts. A part without an embedded image lacks it: then NaN, or false."""
    kind = next((type(of) for of in values if of is not None), None)
    if kind is None:
        return None
    if kind is list:
        return [one for of in values for one in of]
    if kind is dict:
        return {name: _together([None if of is None else of[name] for of in values], parts) for name in FLAGS}
    blank = next(of for of in values if of is not None)
    fill: float | bool = False if blank.dtype == np.bool_ else np.nan
    return np.concatenate(
        [np.full(len(part), fill, blank.dtype) if of is None else of for of, part in zip(values, parts, strict=True)]
    )

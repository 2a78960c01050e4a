"""What to look at in a gallery: duplicates, odd ones, what to label next, and a map of it. Each reads the whole gallery
once, and works on arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vssl.arrays import Float32s, Float64s
from vssl.errors import UsageError
from vssl_gallery import outliers as odd
from vssl_gallery.classifying import NEAR_DUPLICATE
from vssl_gallery.duplicates import Group, groups
from vssl_gallery.gallery import Gallery
from vssl_gallery.map import Map, main_directions, tsne
from vssl_gallery.pick import pick
from vssl_gallery.store.contract import Keys
from vssl_gallery.store.filters import Filter


@dataclass(frozen=True)
class Outlier:
    """A row by id; its `distance`, 1 − the mean cosine to its 10 nearest others; and what it was embedded with."""

    id: str
    distance: float
    novelty: float | None
    familiarity: float | None


@dataclass(frozen=True)
class Places:
    """A map of a gallery: the row of each place [N, 2] by id."""

    ids: list[str]
    map: Map


def find_duplicates(gallery: Gallery, threshold: float = NEAR_DUPLICATE, where: Filter | None = None) -> list[Group]:
    """Groups of rows whose cosine is at least `threshold`, the largest first; of the rows that match `where`.

    Raises:
        UsageError: the threshold is no cosine over 0.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: take a cosine over 0, at most 1")
    vectors, rows = _read(gallery, where, "width", "height", "uncertainty")
    pixels = _numbers(rows, "width") * _numbers(rows, "height")
    return groups(vectors, rows["id"].to_pylist(), pixels, _numbers(rows, "uncertainty"), threshold)


def find_outliers(gallery: Gallery, count: int = 100, where: Filter | None = None) -> list[Outlier]:
    """The `count` rows that are farthest from all others, the most distant first; of those that match `where`."""
    vectors, rows = _read(gallery, where, "novelty", "familiarity")
    apart = odd.distances(vectors)
    found = np.argsort(-apart, kind="stable")[:count]
    chosen = rows.take(pa.array(found, pa.int64())).to_pylist()
    return [
        Outlier(row["id"], float(distance), row["novelty"], row["familiarity"])
        for row, distance in zip(chosen, apart[found], strict=True)
    ]


def pick_next(gallery: Gallery, count: int, seed: int = 0, where: Filter | None = None) -> list[str]:
    """Ids of the rows to label next, the most useful first, of those that match `where`: see `pick.pick`."""
    vectors, rows = _read(gallery, where, "label", "uncertainty")
    labelled = rows["label"].is_valid().to_numpy()
    found = pick(vectors, _numbers(rows, "uncertainty"), labelled, count, seed)
    names: list[str] = rows["id"].take(pa.array(found, pa.int64())).to_pylist()
    return names


def map_of(gallery: Gallery, make: Callable[[Float32s], Map] = tsne, where: Filter | None = None) -> Places:
    """A map of all rows that match `where`, by `map.tsne` or, at once, by `map.main_directions`."""
    vectors, rows = _read(gallery, where)
    return Places(rows["id"].to_pylist(), make(vectors) if len(vectors) else main_directions(vectors))


def _read(gallery: Gallery, where: Filter | None, *columns: str) -> tuple[Float32s, pa.Table]:
    """The vectors [N, D] and these columns of all rows that match, in the order of their ids."""
    column = gallery.exact.column().dense()
    keys = Keys(column.keys, column.version) if where is None else gallery.store.keys(where)
    rows = gallery.store.take(keys, list(columns)).sort_by("id")
    # Others may write meanwhile: some rows have gone, and of those that have come the vectors are not here.
    rows = rows.filter(np.isin(rows["key"].to_numpy(), column.keys))
    return column.vectors[column.places(rows["key"].to_numpy())], rows


def _numbers(rows: pa.Table, column: str) -> Float64s:
    """A column of numbers, NaN where there is none."""
    numbers: Float64s = rows[column].to_numpy().astype(np.float64)
    return numbers

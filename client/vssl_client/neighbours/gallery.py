"""A folder of embeddings to look images up in; it need not fit into memory."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vssl.arrays import Floats, Integers
from vssl.bundle.default import builtin_name
from vssl.errors import UsageError
from vssl.search.nearest import Neighbours, NeighbourSearch
from vssl_client.formats.columns import Origin
from vssl_client.parts.finding import find_parts
from vssl_client.parts.stored import StoredEmbeddings, iter_embeddings


@dataclass(frozen=True)
class Gallery:
    """A folder to look images up in, read as often as needed."""

    folder: Path
    origin: Origin

    def search(self, queries: Floats, k: int, own: Integers | None) -> Neighbours:
        """The k nearest rows of each query [Q, D], without its own row in `own` [Q], in one pass over the vectors.

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

    def vectors_of(self, rows: Integers) -> tuple[Floats, Floats]:
        """The vectors [N, D] and the uncertainties [N] of some sorted rows [N]."""
        found = [
            (part.embedding[at], part.uncertainty[at]) for part, _, at in self._each(rows, ["embedding", "uncertainty"])
        ]
        return np.stack([vector for vector, _ in found]), np.array([uncertainty for _, uncertainty in found])

    def _each(self, rows: Integers, columns: Collection[str]) -> Iterator[tuple[StoredEmbeddings, int, int]]:
        """For each of some sorted rows: its part, itself, and its place in the part."""
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
    query_origin, stored = origins
    if query_origin.id != stored.id:
        names = [f"{builtin_name(one.id) or one.model} {one.version} ({one.id[:12]})" for one in origins]
        raise UsageError(
            f"{queries} was embedded by {names[0]}, {gallery} by {names[1]}: embed both with one bundle "
            "(to calibrate a bundle changes its id, so calibrate first)"
        )
    return Gallery(gallery, stored)

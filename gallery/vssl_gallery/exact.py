"""Exact search: a gallery's embeddings, ids and labels in memory, pinned to a version, kept up to date by their keys.

Up to 250,000 rows the true nearest neighbours are found by comparing with every row, faster than a database does it.
Above, the store is asked, which has an index.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from vssl.arrays import Float32s, Floats, Int64s, Integers, Mask
from vssl.search.nearest import Neighbours, NeighbourSearch
from vssl_gallery.gathering import Gathered
from vssl_gallery.store.contract import Found, Keys, Store, Version
from vssl_gallery.store.filters import Filter
from vssl_gallery.store.rows import check_vectors, found_schema, schema, vectors

EXACT_ROWS = 250_000
"""The most rows whose embeddings are kept in memory: at 512 numbers each, half a gigabyte."""

TAKEN = 8192
"""Rows that are taken from the store in one call."""

REMEMBERED = 4
"""Filters, with the rows that match them."""

KEPT = ("id", "label")
"""Columns that stand in memory: what `classify` and most searches ask for costs no call to the store."""

FEW = 4
"""Where less than one row in so many passes a filter, these are taken out for a search."""

TRIES = 3
"""Others may write while we search; then search again what they have made of it."""


@dataclass(frozen=True)
class Column:
    """The embeddings of a gallery at a version.

    Attributes:
        version: of the gallery.
        keys: [M], the key of each place.
        kept: [M], the columns `KEPT`.
        vectors: [M, D], of unit length.
        alive: [M], whether the row is there still; others are gone or have another key now.
    """

    version: Version
    keys: Int64s
    kept: pa.Table
    vectors: Float32s
    alive: Mask

    @cached_property
    def by_key(self) -> Int64s:
        """The places in the order of their keys."""
        order: Int64s = np.argsort(self.keys)
        return order

    def places(self, keys: Int64s) -> Int64s:
        """The places of some keys; of those that are not here, none."""
        if not len(self.keys):
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys, sorter=self.by_key), len(self.keys) - 1)
        found = self.by_key[at]
        here: Int64s = found[self.keys[found] == keys]
        return here

    def dense(self) -> "Column":
        """The same without the places of rows that are gone."""
        if self.alive.all():
            return self
        kept, alive = self.kept.filter(pa.array(self.alive)), self.alive
        return Column(self.version, self.keys[alive], kept, self.vectors[alive], alive[alive])


@dataclass(frozen=True)
class Below:
    """The rows of a column that pass a filter.

    Attributes:
        places: [P], of these rows.
        among: [M], whether the row at each place is one of them. None where all are, or so few that a search takes
            them out and compares with nothing else.
    """

    places: Int64s
    among: Mask | None

    @classmethod
    def of(cls, places: Int64s, column: Column) -> "Below":
        """The rows at these places."""
        if len(places) < len(column.keys) // FEW:
            return cls(places, None)
        among = np.zeros(len(column.keys), np.bool_)
        among[places] = True
        return cls(places, None if among.all() else among)


class ExactSearch:
    """Searches one gallery. Threads may share it.

    Args:
        store: the gallery.
        exact_rows: the most rows to keep in memory.
    """

    def __init__(self, store: Store, exact_rows: int = EXACT_ROWS) -> None:
        self._store, self._exact_rows = store, exact_rows
        self._lock = threading.Lock()
        self._nearest = Gathered(_nearest)
        self._column: Column | None = None
        self._buffer = np.zeros((0, store.spec.dimension), np.float32)
        self._counted: tuple[Version, int] | None = None
        self._below: dict[Filter, tuple[Column, Below]] = {}

    def search(
        self,
        queries: Float32s,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] = (),
        exact: bool | None = None,
    ) -> Found:
        """The k nearest rows of each of `queries` [Q, D], as `contract.Store.search` answers.

        Args:
            queries: [Q, D], of unit length.
            k: at most; fewer are found only where fewer match.
            where: which rows may be found.
            columns: what to return of each row beside `id`.
            exact: true insists on the true nearest, however long it takes; by default they are the true ones up to
                `exact_rows`; false takes what an index finds.

        Raises:
            InvalidRows: the queries are not [Q, D], finite and of unit length.
        """
        check_vectors(queries, self._store.spec.dimension)
        if exact is False or (self._counted is not None and self._counted[1] > self._exact_rows):
            found = self._store.search(queries, k, where, columns, bool(exact))
            # The answer's version says whether the gallery is still so large: to ask first would be one more trip.
            if exact is False or self._rows(found.version) > self._exact_rows:
                return found
        version = self._store.version()
        if self._rows(version) > self._exact_rows:
            return self._store.search(queries, k, where, columns, bool(exact))
        for _ in range(TRIES):
            column = self._at(version)
            below = None if where is None else self._passing(where, column)
            if where is None or below is not None:
                neighbours = self._nearest(queries, k, column, below)
                rows = self._taken(neighbours, column, columns)
                if rows is not None:
                    return Found(rows, column.version, exact=True)
            version = self._store.version()
        return self._store.search(queries, k, where, columns, exact=True)

    def column(self) -> Column:
        """The embeddings now, read as far as they are not here yet."""
        return self._at(self._store.version())

    def _at(self, version: Version) -> Column:
        """The embeddings at a version that was just read, or a later one."""
        with self._lock:
            if self._column is None:
                self._column = self._first()
            if self._column.version != version:
                self._column = self._brought_up_to_date(self._column)
            return self._column

    def _passing(self, where: Filter, column: Column) -> Below | None:
        """The rows of the column that match; None where the gallery has changed meanwhile. The last few filters are
        remembered: `classify` asks for the labelled rows every time.
        """
        of, below = self._below.get(where, (None, None))
        if of is column:
            return below
        matching = self._store.keys(where)
        if matching.version != column.version:
            return None
        below = Below.of(column.places(matching.keys), column)
        kept = [(other, known) for other, known in self._below.items() if other != where and known[0] is column]
        self._below = dict([*kept[1 - REMEMBERED :], (where, (column, below))])
        return below

    def _rows(self, version: Version) -> int:
        """How many rows the gallery has at a version, or had a moment later."""
        if self._counted is None or self._counted[0] != version:
            self._counted = version, self._store.count()
        return self._counted[1]

    def _taken(self, neighbours: Neighbours, column: Column, columns: Sequence[str]) -> pa.Table | None:
        """The rows of the answer, or None if one of them is gone by now."""
        query, rank = np.nonzero(np.isfinite(neighbours.similarity))
        places = neighbours.rows[query, rank]
        if set(columns) <= set(KEPT):
            return self._answer(query, neighbours.similarity[query, rank], column.kept.take(pa.array(places)), columns)
        keys = column.keys[places]
        each, place = np.unique(keys, return_inverse=True)
        rows = self._store.take(Keys(each, column.version), columns)
        if rows.num_rows < len(each):
            return None
        return self._answer(query, neighbours.similarity[query, rank], rows.take(place), columns)

    def _answer(self, query: Integers, similarity: Floats, rows: pa.Table, columns: Sequence[str]) -> pa.Table:
        answer = found_schema(self._store.spec, columns)
        numbers = {"query": query.astype(np.int32), "similarity": similarity.astype(np.float32)}
        return pa.table({**numbers, **{name: rows[name] for name in answer.names[2:]}}, schema=answer)

    def _first(self) -> Column:
        version = self._store.version()
        self._buffer = np.empty((self._store.count() * 5 // 4, self._store.spec.dimension), np.float32)
        keys, kept, known = [np.zeros(0, np.int64)], [_kept(schema(self._store.spec).empty_table())], 0
        for batch in self._store.scan(None, ["key", "label", "embedding"]):
            keys.append(batch["key"].to_numpy())
            kept.append(_kept(batch))
            known = self._put(known, vectors(batch["embedding"]))
        # The scan may have been of a later version than we know; then the next step finds what is missing.
        return Column(version, np.concatenate(keys), _joined(kept), self._buffer[:known], np.ones(known, np.bool_))

    def _brought_up_to_date(self, column: Column) -> Column:
        now = self._store.keys()
        alive = np.isin(column.keys, now.keys)
        if np.count_nonzero(~alive) > len(alive) // 4:
            column = Column(column.version, column.keys, column.kept, column.vectors, alive).dense()
            self._buffer, alive = column.vectors, column.alive
        fresh = np.setdiff1d(now.keys, column.keys, assume_unique=True)
        keys, kept, known = [column.keys], [column.kept], len(column.keys)
        for start in range(0, len(fresh), TAKEN):
            rows = self._store.take(Keys(fresh[start : start + TAKEN], now.version), ["label", "embedding"])
            keys.append(rows["key"].to_numpy())
            kept.append(_kept(rows))
            known = self._put(known, vectors(rows["embedding"]))
        alive = np.concatenate([alive, np.ones(known - len(alive), np.bool_)])
        return Column(now.version, np.concatenate(keys), _joined(kept), self._buffer[:known], alive)

    def _put(self, known: int, more: Float32s) -> int:
        """Write vectors behind the first `known` of the buffer, which others may be reading now."""
        end = known + len(more)
        if end > len(self._buffer):
            larger = np.empty((end * 5 // 4, self._buffer.shape[1]), np.float32)
            larger[:known] = self._buffer[:known]
            self._buffer = larger
        self._buffer[known:end] = more
        return end


def _kept(rows: pa.Table | pa.RecordBatch) -> pa.Table:
    return pa.table({name: rows[name] for name in KEPT})


def _joined(parts: Sequence[pa.Table]) -> pa.Table:
    """One table in one piece each column, from which rows are taken fast."""
    return pa.concat_tables(parts).combine_chunks()


def _nearest(queries: Float32s, k: int, column: Column, below: Below | None) -> Neighbours:
    """The k nearest of the rows that may be found; where there are fewer, their similarity is −∞."""
    most = len(column.keys) if below is None else len(below.places)
    if not most or not len(queries):
        return Neighbours(np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32))
    search = NeighbourSearch(queries, k)
    if below is not None and most < len(column.keys) // FEW:
        search.add(column.vectors[below.places], unit=True)
        found = search.found()
        return Neighbours(below.places[found.rows], found.similarity)
    if below is not None:
        search.add(column.vectors, below.among, unit=True)
    else:
        search.add(column.vectors, None if column.alive.all() else column.alive, unit=True)
    return search.found()

"""One gallery: a record, and a collection of points."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import pyarrow as pa
from qdrant_client import models

from vssl.arrays import Float32s
from vssl_gallery.errors import VersionUnknown
from vssl_gallery.store.contract import Found, Keys, Report, Spec, StoreInfo, Version, Written
from vssl_gallery.store.filters import Filter, ids, matches
from vssl_gallery.store.qdrant.conditions import columns_of, compiled, has_text_order
from vssl_gallery.store.qdrant.connection import Connection
from vssl_gallery.store.qdrant.points import points_of, table_of, wanted
from vssl_gallery.store.qdrant.upkeep import maintain
from vssl_gallery.store.qdrant.versions import RECORDS, Record, State, records
from vssl_gallery.store.rows import check_vectors, checked, types_of

AT_ONCE = 500
"""Points in one request that writes."""

QUERIES = 100
"""Vectors in one request."""

_BATCH = 4 << 20
"""Bytes of rows read at once."""

_BITS = 24
"""Of a key count the rows of one version; the others are the version, which no other write has."""


class QdrantStore:
    """See `vssl_gallery.store.contract.Store`."""

    def __init__(self, connection: Connection, name: str, record: Record, collection: str, spec: Spec) -> None:
        self.name, self.spec = name, spec
        self._connection, self._record, self.collection = connection, record, collection
        self._order: tuple[int, Filter | None, list[tuple[str, int]]] = (-1, None, [])

    def info(self) -> StoreInfo:
        """See `contract.Store`."""
        state = self._record.state()
        rows = self._counted(state.visible())
        indexed = min(self._indexed(), rows)
        return StoreInfo(self.spec, rows, Version(state.version), indexed, state.recall if indexed else None)

    def version(self) -> Version:
        """See `contract.Store`."""
        return Version(self._record.state().version)

    def reach(self, version: Version, timeout: float = 5.0) -> None:
        """See `contract.Store`."""
        end = time.monotonic() + timeout
        while (seen := self.version()) < version:
            if time.monotonic() > end:
                raise VersionUnknown(f"gallery {self.name!r}: has no version {version}; its newest is {seen}")
            time.sleep(0.05)

    def upsert(self, rows: pa.Table) -> Written:
        """See `contract.Store`."""
        rows = checked(rows, self.spec)
        if not rows.num_rows:
            return Written(self.version(), 0)
        with self._record.writing() as (state, alive):
            for start in range(0, rows.num_rows, AT_ONCE):
                part = rows.slice(start, AT_ONCE)
                first = (state.next << _BITS) + start
                points = points_of(part, range(first, first + part.num_rows), state.next, self.spec)
                alive()
                with self._connection.asking() as client:
                    client.upsert(self.collection, points, wait=True, ordering=models.WriteOrdering.STRONG)
                self._end(state, state.visible(compiled(ids(part["id"].to_pylist()))))
        return Written(Version(state.next), rows.num_rows)

    def delete(self, where: Filter | None) -> Written:
        """See `contract.Store`."""
        with self._record.writing() as (state, _):
            condition = self._visible(where, state)
            count = self._counted(condition)
            self._end(state, condition)
        return Written(Version(state.next), count)

    def search(
        self,
        vectors: Float32s,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] = (),
        exact: bool = False,
    ) -> Found:
        """See `contract.Store`."""
        check_vectors(vectors, self.spec.dimension)
        names = self._names(columns)
        state = self._record.state()
        condition = self._visible(where, state)
        exact = exact or self._indexed() == 0
        found = self._nearest(vectors, k, condition, names, exact)
        if not exact and any(len(points) < k for points in found):
            short = [place for place, points in enumerate(found) if len(points) < k]
            if any(len(found[place]) < min(k, self._counted(condition)) for place in short):
                for place, points in zip(short, self._nearest(vectors[short], k, condition, names, True), strict=True):
                    found[place] = points
        every = [point for points in found for point in points]
        queries = np.repeat(np.arange(len(found), dtype=np.int32), [len(points) for points in found])
        rows = table_of(every, names, self.spec)
        similarity = pa.array([point.score for point in every], pa.float32())
        rows = rows.add_column(0, "similarity", similarity).add_column(0, "query", pa.array(queries, pa.int32()))
        return Found(rows, Version(state.version), exact)

    def scan(self, where: Filter | None = None, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """See `contract.Store`."""
        names, state = self._names(columns), self._record.state()
        for points in self._scrolled(self._visible(where, state), names):
            yield from table_of(points, names, self.spec).to_batches()

    def page(self, after: str | None, limit: int, where: Filter | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """See `contract.Store`. Qdrant orders no texts: the first page reads all ids, and the next ones know them."""
        names, state = self._names(columns), self._record.state()
        if self._order[:2] != (state.version, where):
            parts = self._scrolled(self._visible(where, state), ["id"])
            self._order = (state.version, where, sorted((p.payload["id"], p.id) for part in parts for p in part))
        order = self._order[2]
        start = 0 if after is None else bisect_right(order, after, key=lambda pair: pair[0])
        return table_of(self._points([key for _, key in order[start : start + limit]], names), names, self.spec)

    def count(self, where: Filter | None = None) -> int:
        """See `contract.Store`."""
        return self._counted(self._visible(where, self._record.state()))

    def count_by(self, column: str, where: Filter | None = None) -> dict[str | int | bool | None, int]:
        """See `contract.Store`."""
        return dict(Counter(value for part in self.scan(where, [column]) for value in part[column].to_pylist()))

    def keys(self, where: Filter | None = None) -> Keys:
        """See `contract.Store`."""
        state = self._record.state()
        found = [point.id for part in self._scrolled(self._visible(where, state), []) for point in part]
        return Keys(np.array(found, np.int64), Version(state.version))

    def take(self, keys: Keys, columns: Sequence[str] = ()) -> pa.Table:
        """See `contract.Store`."""
        names, state = self._names(columns), self._record.state()
        points = self._points(keys.keys.tolist(), names, state)
        return table_of(points, ["key", *names], self.spec)

    def maintain(self) -> Report:
        """See `contract.Store`."""
        indexed = self._indexed() > 0
        actions = tuple(maintain(self._connection, self._record, self.collection, indexed, self._recall))
        return Report(actions, self.info())

    def records(self) -> dict[str, str]:
        """See `contract.Store`."""
        return {
            found["key"]: found["text"] for found in records(self._connection, kind="text", collection=self.collection)
        }

    def read_record(self, key: str) -> str | None:
        """See `contract.Store`."""
        with self._connection.asking() as client:
            found = client.retrieve(RECORDS, [self._text(key)], consistency=models.ReadConsistencyType.MAJORITY)
        return str((found[0].payload or {})["text"]) if found else None

    def write_record(self, key: str, text: str | None) -> None:
        """See `contract.Store`."""
        with self._connection.asking() as client:
            if text is None:
                client.delete(RECORDS, [self._text(key)], wait=True)
            else:
                payload = {"kind": "text", "collection": self.collection, "key": key, "text": text}
                client.upsert(RECORDS, [models.PointStruct(id=self._text(key), vector={}, payload=payload)], wait=True)

    def close(self) -> None:
        """The connection is the place's."""

    def _text(self, key: str) -> str:
        return str(uuid5(NAMESPACE_OID, f"{self.collection}/{key}"))

    def _names(self, columns: Sequence[str]) -> list[str]:
        names = list(dict.fromkeys(("id", *columns)))
        types_of(names, self.spec)
        return names

    def _visible(self, where: Filter | None, state: State) -> models.Filter:
        """The points that count and match."""
        if where is None:
            return state.visible()
        if not has_text_order(where):
            return state.visible(compiled(where))
        names = columns_of(where)
        found: list[Any] = []
        for points in self._scrolled(state.visible(), names):
            rows = table_of(points, names, self.spec).to_pylist()
            found += [point.id for point, row in zip(points, rows, strict=True) if matches(where, row)]
        return models.Filter(must=[models.HasIdCondition(has_id=found)])

    def _end(self, state: State, condition: models.Filter) -> None:
        """From the version that is being written on, these points do not count."""
        mark = {"_to": state.next, "_gone": int(time.time())}
        with self._connection.asking() as client:
            client.set_payload(self.collection, mark, points=condition, wait=True, ordering=models.WriteOrdering.STRONG)

    def _counted(self, condition: models.Filter) -> int:
        with self._connection.asking() as client:
            return int(client.count(self.collection, count_filter=condition, exact=True).count)

    def _indexed(self) -> int:
        with self._connection.asking() as client:
            return client.get_collection(self.collection).indexed_vectors_count or 0

    def _nearest(
        self, vectors: Float32s, k: int, condition: models.Filter, names: Sequence[str], exact: bool
    ) -> list[list[Any]]:
        asked = wanted(names)
        parameters = None if self._connection.local else models.SearchParams(exact=exact)
        requests = [
            models.QueryRequest(
                query=vector,
                using="embedding",
                filter=condition,
                params=parameters,
                limit=k,
                with_payload=asked["with_payload"],
                with_vector=asked["with_vectors"],
            )
            for vector in vectors.tolist()
        ]
        found: list[list[Any]] = []
        for start in range(0, len(requests), QUERIES):
            with self._connection.asking() as client:
                answers = client.query_batch_points(
                    self.collection,
                    requests[start : start + QUERIES],
                    consistency=models.ReadConsistencyType.MAJORITY,
                )
            found += [list(answer.points) for answer in answers]
        return found

    def _scrolled(self, condition: models.Filter, names: Sequence[str]) -> Iterator[list[Any]]:
        vectors = sum(name in ("embedding", "variance") for name in names)
        size = 4 * self.spec.dimension * vectors + (20_000 if "thumbnail" in names else 0) + 200
        offset = None
        while True:
            with self._connection.asking() as client:
                points, offset = client.scroll(
                    self.collection,
                    scroll_filter=condition,
                    limit=max(_BATCH // size, 1),
                    offset=offset,
                    consistency=models.ReadConsistencyType.MAJORITY,
                    **wanted(names),
                )
            if points:
                yield points
            if offset is None:
                return

    def _points(self, keys: list[int], names: Sequence[str], state: State | None = None) -> list[Any]:
        """Points in the order of their keys; with a state, those of them that count."""
        found: dict[Any, Any] = {}
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            condition = models.Filter(must=[models.HasIdCondition(has_id=some)])
            for points in self._scrolled(condition if state is None else state.visible(condition), names):
                found |= {point.id: point for point in points}
        return [found[key] for key in keys if key in found]

    def _recall(self, sample: int, neighbours: int) -> float:
        """The share of the true neighbours that the index finds, of rows of the gallery."""
        state = self._record.state()
        points = next(self._scrolled(state.visible(), ["embedding"]), [])[:sample]
        queries = np.array([point.vector["embedding"] for point in points], np.float32)
        pair = [self._nearest(queries, neighbours + 1, state.visible(), [], exact) for exact in (False, True)]
        shares = [
            len({p.id for p in found} & {p.id for p in true} - {own.id}) / max(len(true) - 1, 1)
            for own, found, true in zip(points, *pair, strict=True)
        ]
        return float(np.mean(shares)) if shares else 1.0

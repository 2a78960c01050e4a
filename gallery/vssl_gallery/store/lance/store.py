"""One gallery as a table of LanceDB."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vssl.arrays import Float32s
from vssl_gallery.errors import UnknownGallery, VersionUnknown
from vssl_gallery.store.contract import Found, Keys, Report, Spec, StoreInfo, Version, Written
from vssl_gallery.store.filters import And, Compare, Filter
from vssl_gallery.store.lance.failures import translated
from vssl_gallery.store.lance.maintenance import INDEX, VECTORS, Measured, by_index, index_of, maintain, read_measured
from vssl_gallery.store.lance.records import Records
from vssl_gallery.store.lance.sql import to_sql
from vssl_gallery.store.rows import check_vectors, checked, found_schema, types_of

INDEX_ROWS = 100_000
"""An index is built from here on: below, comparing with every row is fast enough."""

SPEC_KEY, MADE_KEY = "vssl.gallery", "vssl.made"
"""Of the table's metadata: the specification, and a number of its own, which tells it from a later one of its name."""

QUERIES = 100
"""Vectors in one call."""

BATCH_BYTES = 8 << 20


@dataclass(frozen=True)
class Pin:
    """A handle that stays at a version, its index, and how to search that."""

    table: Any
    version: Version
    index: Any
    measured: Measured | None


class LanceStore:
    """See `contract.Store`.

    Reads use handles that are pinned to one version, so that an answer's parts fit together.
    """

    def __init__(self, connection: Any, table: Any, spec: Spec, records: Records, index_rows: int) -> None:  # noqa: ANN401
        self.name: str = table.name
        self.spec = spec
        self._connection, self._latest, self._records, self._index_rows = connection, table, records, index_rows
        self._where = f"gallery {self.name}"
        self._made = (table.schema.metadata or {}).get(MADE_KEY.encode())
        self._lock = threading.Lock()
        self._pins: dict[int, Pin] = {}

    def info(self) -> StoreInfo:
        """See `contract.Store`."""
        with translated(self._where):
            pin = self._pinned()
            index, measured = pin.index, pin.measured
            return StoreInfo(
                self.spec,
                rows=pin.table.count_rows(),
                version=pin.version,
                indexed_rows=0 if index is None else index.num_indexed_rows or 0,
                recall=None if measured is None or not measured.recall else measured.recall,
                size=pin.table.stats()["total_bytes"],
            )

    def version(self) -> Version:
        """See `contract.Store`."""
        with translated(self._where):
            return Version(self._latest.version)

    def reach(self, version: Version, timeout: float = 5.0) -> None:
        """See `contract.Store`."""
        end = time.monotonic() + timeout
        with translated(self._where):
            while self._latest.version < version:
                if time.monotonic() > end:
                    raise VersionUnknown(f"{self.name}: has no version {version}; its newest is {self._latest.version}")
                time.sleep(0.05)
                self._latest.checkout_latest()

    def upsert(self, rows: pa.Table) -> Written:
        """See `contract.Store`."""
        rows = checked(rows, self.spec)
        with translated(self._where):
            if not rows.num_rows:
                return Written(self.version(), 0)
            merge = self._latest.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            # A variance may be null; of an embedding, `checked` has seen to that.
            done = merge.execute(rows, on_bad_vectors="null")
            return Written(Version(done.version), rows.num_rows)

    def delete(self, where: Filter | None) -> Written:
        """See `contract.Store`."""
        with translated(self._where):
            done = self._latest.delete(to_sql(where))
            return Written(Version(done.version), done.num_deleted_rows)

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
        with translated(self._where):
            pin = self._pinned()
            effort = None if exact or pin.measured is None else pin.measured.effort
            answer = found_schema(self.spec, columns)
            parts = [answer.empty_table()]
            for start in range(0, len(vectors), QUERIES):
                few = np.ascontiguousarray(vectors[start : start + QUERIES], np.float32)
                query = pin.table.search(few, vector_column_name=VECTORS).distance_type("dot").limit(k)
                query = _below(query, where).select([*answer.names[2:], "_distance"])
                query = query.bypass_vector_index() if effort is None else by_index(query, k, effort)
                parts.append(_as_found(query.to_arrow(), start, answer))
        return Found(pa.concat_tables(parts), pin.version, effort is None)

    def scan(self, where: Filter | None = None, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """See `contract.Store`."""
        wanted = self._wanted(columns)
        stored = ["_rowid" if name == "key" else name for name in wanted]
        with translated(self._where):
            query = _below(self._pinned().table.search(), where).with_row_id("key" in wanted).select(stored)
            for batch in query.to_batches(self._batch_rows(wanted)):
                yield _with_keys(batch.select(stored)) if "key" in wanted else batch

    def page(self, after: str | None, limit: int, where: Filter | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """See `contract.Store`."""
        parts = [] if where is None else [where]
        if after is not None:
            parts.append(Compare("id", "text", "gt", after))
        with translated(self._where):
            query = _below(self._pinned().table.search(), And(tuple(parts)) if parts else None)
            by_id = [{"column_name": "id", "ascending": True, "nulls_first": False}]
            return query.order_by(by_id).limit(limit).select(self._wanted(columns)).to_arrow()

    def count(self, where: Filter | None = None) -> int:
        """See `contract.Store`."""
        with translated(self._where):
            return int(self._pinned().table.count_rows(None if where is None else to_sql(where)))

    def count_by(self, column: str, where: Filter | None = None) -> dict[str | int | bool | None, int]:
        """See `contract.Store`."""
        types_of([column], self.spec)
        with translated(self._where):
            values = _below(self._pinned().table.search(), where).select([column]).to_arrow()[column]
        return {pair["values"]: pair["counts"] for pair in pc.value_counts(values).to_pylist()}

    def keys(self, where: Filter | None = None) -> Keys:
        """See `contract.Store`. A key is a row's address: its fragment and its place in there."""
        with translated(self._where):
            pin = self._pinned()
            rows = _below(pin.table.search(), where).with_row_id(True).select(["_rowid"]).to_arrow()
        return Keys(rows["_rowid"].to_numpy().astype(np.int64), pin.version)

    def take(self, keys: Keys, columns: Sequence[str] = ()) -> pa.Table:
        """See `contract.Store`."""
        wanted = self._wanted(columns)
        with translated(self._where):
            rows = (
                self._pinned(keys.version)
                .table.take_row_ids(keys.keys.tolist())
                .with_row_id()
                .select(wanted)
                .to_arrow()
            )
        rows = _with_keys(rows.select(["_rowid", *wanted]))
        # They come in the order of the file.
        places = np.argsort(keys.keys, kind="stable")
        found = np.searchsorted(keys.keys, rows["key"].to_numpy(), sorter=places)
        return rows.take(np.argsort(places[found], kind="stable"))

    def maintain(self) -> Report:
        """See `contract.Store`."""
        with translated(self._where):
            actions = maintain(self._latest, self._records, self.name, self._index_rows)
            with self._lock:
                self._pins.clear()  # they don't know what was measured now
        return Report(tuple(actions), self.info())

    def records(self) -> dict[str, str]:
        """See `contract.Store`."""
        prefix = f"gallery/{self.name}/"
        with translated(self._where):
            return {key.removeprefix(prefix): text for key, text in self._records.under(prefix).items()}

    def read_record(self, key: str) -> str | None:
        """See `contract.Store`."""
        with translated(self._where):
            return self._records.read(f"gallery/{self.name}/{key}")

    def write_record(self, key: str, text: str | None) -> None:
        """See `contract.Store`."""
        with translated(self._where):
            self._records.write(f"gallery/{self.name}/{key}", text)

    def close(self) -> None:
        """See `contract.Store`."""
        self._pins.clear()

    def _pinned(self, version: Version | None = None) -> Pin:
        """The table at a version, by default the newest."""
        with self._lock:
            version = self.version() if version is None else version
            if version not in self._pins:
                table = self._connection.open_table(self.name)
                table.checkout(version)
                if (table.schema.metadata or {}).get(MADE_KEY.encode()) != self._made:
                    raise UnknownGallery(f"{self._where} is gone; somebody dropped it and made another one")
                index = index_of(table)
                measured = None if index is None else read_measured(self.read_record(INDEX))
                self._pins = {**dict(list(self._pins.items())[-1:]), version: Pin(table, version, index, measured)}
            return self._pins[version]

    def _wanted(self, columns: Sequence[str]) -> list[str]:
        wanted = list(dict.fromkeys(("id", *columns)))
        types_of(wanted, self.spec)
        return wanted

    def _batch_rows(self, columns: Sequence[str]) -> int:
        size = sum(4 * self.spec.dimension if name in ("embedding", "variance") else 64 for name in columns)
        return max(64, BATCH_BYTES // (size + (16_384 if "thumbnail" in columns else 0)))


def _below(query: Any, where: Filter | None) -> Any:  # noqa: ANN401 — LanceDB's query
    """The query below a filter. Even one that every row passes takes time."""
    return query if where is None else query.where(to_sql(where))


def _with_keys(rows: Any) -> Any:  # noqa: ANN401 — a table or a batch
    at = rows.schema.get_field_index("_rowid")
    return rows.set_column(at, "key", rows.column(at).cast(pa.int64()))


def _as_found(rows: pa.Table, first: int, answer: pa.Schema) -> pa.Table:
    """LanceDB's answer as ours: 1 − its distance is the cosine of vectors of unit length."""
    one = "query_index" not in rows.column_names  # of a single vector
    query = pa.repeat(pa.scalar(0, pa.int32()), rows.num_rows) if one else rows["query_index"].cast(pa.int32())
    columns = {
        "query": pc.add(query, pa.scalar(first, pa.int32())),
        "similarity": pc.subtract(pa.scalar(1, pa.float32()), rows["_distance"]),
        **{name: rows[name] for name in answer.names[2:]},
    }
    found = pa.table(columns, schema=answer)
    return found.sort_by([("query", "ascending"), ("similarity", "descending")])

"""One gallery: a row of the catalogue, and a table."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from vssl.arrays import Float32s
from vssl_gallery.errors import UnknownGallery, VersionUnknown
from vssl_gallery.store.contract import Found, Keys, Report, Spec, StoreInfo, Version, Written
from vssl_gallery.store.filters import Filter
from vssl_gallery.store.postgres.conditions import Condition
from vssl_gallery.store.postgres.database import Database
from vssl_gallery.store.postgres.nearest import Search, by_index
from vssl_gallery.store.postgres.tables import column_name, index_name, rows_table
from vssl_gallery.store.postgres.transfer import put, row_bytes, table_of
from vssl_gallery.store.postgres.upkeep import maintain
from vssl_gallery.store.rows import check_vectors, checked, types_of

_BATCH = 4 << 20
"""Bytes of rows read at once."""

Cursor = psycopg.Cursor[Any]


class PostgresStore:
    """See `vssl_gallery.store.contract.Store`."""

    def __init__(self, database: Database, name: str, number: int, spec: Spec) -> None:
        self.name, self.spec = name, spec
        self._database, self._number = database, number
        self._table = rows_table(number)

    def info(self) -> StoreInfo:
        """Its state now."""
        return self._database.read(self._info)

    def version(self) -> Version:
        """The version that reads see now."""
        return Version(self._stated(self._database.ask(_STATE, {"number": self._number}))[0])

    def reach(self, version: Version, timeout: float = 5.0) -> None:
        """Return when reads see that version; a replica needs a moment for it."""
        end = time.monotonic() + timeout
        while (seen := self.version()) < version:
            if time.monotonic() > end:
                raise VersionUnknown(f"gallery {self.name!r}: has no version {version}; its newest is {seen}")
            time.sleep(0.02)

    def upsert(self, rows: pa.Table) -> Written:
        """Put rows, each in place of the one that has its id."""
        rows = checked(rows, self.spec)
        names = [column_name(name) for name in rows.column_names]
        parts = {
            "table": self._table,
            "names": sql.SQL(", ").join(names),
            "changes": sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in names),
        }

        def work(cursor: Cursor) -> Written:
            cursor.execute(_INCOMING.format(**parts))
            put(cursor, sql.Identifier("incoming"), rows, self.spec)
            with self._writing(cursor) as change:
                (there,) = cursor.execute(_THERE.format(**parts)).fetchone() or (0,)
                cursor.execute(_UPSERT.format(**parts))
                change.append(rows.num_rows - there)
            return Written(Version(change[-1]), rows.num_rows)

        return self._database.write(work)

    def delete(self, where: Filter | None) -> Written:
        """Delete the rows that match."""
        condition = Condition(where)
        statement = sql.SQL("DELETE FROM {} WHERE {}").format(self._table, condition.text)

        def work(cursor: Cursor) -> Written:
            with self._writing(cursor) as change:
                deleted = cursor.execute(statement, condition.values).rowcount
                change.append(-deleted)
            return Written(Version(change[-1]), deleted)

        return self._database.write(work)

    def search(
        self,
        vectors: Float32s,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] = (),
        exact: bool = False,
    ) -> Found:
        """The k rows most similar to each of `vectors` [Q, D], of unit length."""
        check_vectors(vectors, self.spec.dimension)
        names = [name for name in columns if name != "id"]
        types = [pa.int32(), pa.float32(), pa.string(), *types_of(names, self.spec)]
        if where is None and not exact:
            quick = by_index(self._database, self._number, vectors, k, names)
            if quick is not None:
                found, version = quick
                return Found(table_of(found, ("query", "similarity", "id", *names), types), Version(version), False)

        def work(cursor: Cursor) -> Found:
            version, rows, effort = self._state(cursor)
            search = Search(cursor, self._number, k, where, names)
            if exact or effort is None:
                found, true = search.exact(vectors), True
            else:
                found, true = search.indexed(vectors, rows, effort)
            return Found(table_of(found, ("query", "similarity", "id", *names), types), Version(version), true)

        return self._database.read(work)

    def scan(self, where: Filter | None = None, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """All rows that match, at one version."""
        names, statement, values = self._selection(where, columns)
        types = types_of(names, self.spec)
        at_once = max(_BATCH // row_bytes(names, self.spec), 1)
        with self._database.held() as connection, connection.cursor("scan", binary=True) as cursor:
            cursor.execute(statement, values)
            while found := cursor.fetchmany(at_once):
                yield from table_of(found, names, types).to_batches()

    def page(self, after: str | None, limit: int, where: Filter | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """The next `limit` rows that match, by id."""
        names, statement, values = self._selection(where, columns)
        following = sql.SQL("" if after is None else " AND id > %(after)s")
        statement += following + sql.SQL(" ORDER BY id LIMIT %(limit)s")
        bound = {**values, "after": after, "limit": limit}
        return table_of(self._database.ask(statement, bound), names, types_of(names, self.spec))

    def count(self, where: Filter | None = None) -> int:
        """How many rows match."""
        condition = Condition(where)
        statement = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._table, condition.text)
        return int(self._database.ask(statement, condition.values)[0][0])

    def count_by(self, column: str, where: Filter | None = None) -> dict[str | int | bool | None, int]:
        """How many rows match of each value of a column."""
        types_of([column], self.spec)
        condition = Condition(where)
        parts = {"name": column_name(column), "table": self._table, "condition": condition.text}
        statement = sql.SQL("SELECT {name}, count(*) FROM {table} WHERE {condition} GROUP BY {name}").format(**parts)
        return dict(self._database.ask(statement, condition.values))

    def keys(self, where: Filter | None = None) -> Keys:
        """The keys of the rows that match."""
        condition = Condition(where)
        statement = sql.SQL("SELECT key FROM {} WHERE {}").format(self._table, condition.text)

        def work(cursor: Cursor) -> Keys:
            version = Version(self._state(cursor)[0])
            found = cursor.execute(statement, condition.values).fetchall()
            return Keys(np.fromiter((key for (key,) in found), np.int64, len(found)), version)

        return self._database.read(work)

    def take(self, keys: Keys, columns: Sequence[str] = ()) -> pa.Table:
        """Rows by some keys, in their order."""
        names = ["id", *(name for name in columns if name != "id")]
        types = [pa.int64(), *types_of(names, self.spec)]
        parts = {"table": self._table, "names": sql.SQL(", ").join(column_name(name) for name in names)}
        statement, bound = _TAKE.format(**parts), {"keys": keys.keys.tolist()}
        return table_of(self._database.ask(statement, bound), ["key", *names], types)

    def maintain(self) -> Report:
        """Bring the index up to date, measure its recall, and free what deleted rows took."""
        with self._database.alone() as connection:
            actions = tuple(maintain(connection, self._number, self.spec))
        return Report(actions, self.info())

    def records(self) -> dict[str, str]:
        """All texts beside the rows."""
        return dict(self._database.ask(_RECORDS, {"number": self._number}))

    def read_record(self, key: str) -> str | None:
        """A text beside the rows."""
        found = self._database.ask(_READ_RECORD, {"number": self._number, "key": key})
        return str(found[0][0]) if found else None

    def write_record(self, key: str, text: str | None) -> None:
        """Keep that text, or with None forget it."""
        bound = {"number": self._number, "key": key, "text": text}
        statement = _FORGET_RECORD if text is None else _WRITE_RECORD
        self._database.write(lambda cursor: cursor.execute(statement, bound))

    def close(self) -> None:
        """The connections are the place's."""

    @contextmanager
    def _writing(self, cursor: Cursor) -> Iterator[list[int]]:
        """One writer at a time, so that versions rise in the order in which writes are seen.

        The block appends by how many rows the gallery grows, and finds the version behind it afterwards.
        """
        change: list[int] = []
        if cursor.execute(_LOCK, {"number": self._number}).fetchone() is None:
            raise UnknownGallery(f"gallery {self.name!r} is gone; somebody dropped it")
        yield change
        version = cursor.execute(_NEXT, {"number": self._number, "change": change[0]}).fetchone()
        change.append(version[0] if version else 0)

    def _state(self, cursor: Cursor) -> tuple[int, int, int | None]:
        """Version, rows, and with how much effort to search the index; None without one that has been measured."""
        return self._stated(cursor.execute(_STATE, {"number": self._number}).fetchall())

    def _stated(self, found: Sequence[tuple[Any, ...]]) -> tuple[int, int, int | None]:
        if not found:
            raise UnknownGallery(f"gallery {self.name!r} is gone; somebody dropped it")
        [(version, rows, effort)] = found
        return int(version), int(rows), effort

    def _info(self, cursor: Cursor) -> StoreInfo:
        version, rows, effort = self._state(cursor)
        bound = {
            "number": self._number,
            "table": f"vssl.rows_{self._number}",
            "index": f"vssl.{index_name(self._number)}",
        }
        recall, size, whole = cursor.execute(_INFO, bound).fetchone() or (None, None, False)
        indexed = effort is not None and whole
        return StoreInfo(self.spec, rows, Version(version), rows if indexed else 0, recall if indexed else None, size)

    def _selection(
        self, where: Filter | None, columns: Sequence[str]
    ) -> tuple[list[str], sql.Composed, dict[str, object]]:
        names = ["id", *(name for name in columns if name != "id")]
        types_of(names, self.spec)
        condition = Condition(where)
        listed = sql.SQL(", ").join(column_name(name) for name in names)
        statement = sql.SQL("SELECT {} FROM {} WHERE {}").format(listed, self._table, condition.text)
        return names, statement, condition.values


_INCOMING = sql.SQL("CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {names} FROM {table} WITH NO DATA")
_THERE = sql.SQL("SELECT count(*) FROM {table} JOIN incoming USING (id)")
_UPSERT = sql.SQL("""
INSERT INTO {table} ({names}) SELECT {names} FROM incoming
ON CONFLICT (id) DO UPDATE SET key = EXCLUDED.key, {changes}
""")
_TAKE = sql.SQL("""
SELECT key, {names} FROM unnest(%(keys)s::bigint[]) WITH ORDINALITY AS wanted (key, place)
JOIN {table} AS rows USING (key) ORDER BY wanted.place
""")
_LOCK = "SELECT 1 FROM vssl.galleries WHERE number = %(number)s FOR UPDATE"
_NEXT = """
UPDATE vssl.galleries SET version = version + 1, rows = rows + %(change)s WHERE number = %(number)s RETURNING version
"""
_STATE = "SELECT version, rows, effort FROM vssl.galleries WHERE number = %(number)s"
_INFO = """
SELECT recall, pg_total_relation_size(%(table)s::regclass),
       EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%(index)s) AND indisvalid)
FROM vssl.galleries WHERE number = %(number)s
"""
_RECORDS = "SELECT key, text FROM vssl.records WHERE number = %(number)s"
_READ_RECORD = "SELECT text FROM vssl.records WHERE number = %(number)s AND key = %(key)s"
_WRITE_RECORD = """
INSERT INTO vssl.records (number, key, text) VALUES (%(number)s, %(key)s, %(text)s)
ON CONFLICT (number, key) DO UPDATE SET text = EXCLUDED.text
"""
_FORGET_RECORD = "DELETE FROM vssl.records WHERE number = %(number)s AND key = %(key)s"

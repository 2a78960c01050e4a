"""Small texts that a place keeps beside its galleries: aliases, and what each gallery wants to remember.

They are rows of one more table, `_records`. It is also how we know a place as ours: no gallery can have this name.
"""

import threading
import time
from typing import Any

import pyarrow as pa

from vssl_gallery.store.filters import Equal
from vssl_gallery.store.lance.sql import literal, to_sql

TABLE = "_records"
KEY = {"lance-schema:unenforced-primary-key:position": "1"}
"""Marks a column as the table's key. Without it two writers that put the same id at once would put two rows."""

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False, metadata=KEY), pa.field("value", pa.string())])

FRESH_SECONDS = 0.1
"""For which what was read stays known: what other processes write is seen so late. To ask LanceDB for its version goes
through an event loop and threads, which takes as long as all else that follows a search in memory.
"""


class Records:
    """Texts by their keys, which are paths: `gallery/NAME/KEY` and `alias/NAME`."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 — LanceDB has no types
        self._connection = connection
        self._lock = threading.Lock()
        self._opened: Any = None
        self._read: tuple[int, dict[str, str | None]] = (-1, {})
        self._fresh_until = 0.0

    def read(self, key: str) -> str | None:
        """The text of a key, or None. What was read stays known until somebody writes: each answer of a gallery reads
        its calibration.
        """
        now, known = time.monotonic(), self._read
        if now >= self._fresh_until:
            version = int(self._table().version)
            if known[0] != version:
                known = self._read = version, {}
            self._fresh_until = now + FRESH_SECONDS
        if key not in known[1]:
            known[1][key] = next(iter(self._rows(to_sql(Equal("key", "text", key))).values()), None)
        return known[1][key]

    def under(self, prefix: str) -> dict[str, str]:
        """All keys that begin with a prefix, and their texts."""
        return {
            key: value for key, value in self._rows(f"`key` >= {literal(prefix)}").items() if key.startswith(prefix)
        }

    def write(self, key: str, value: str | None) -> None:
        """Keep a text, or with None forget it."""
        table = self._table()
        if value is None:
            table.delete(to_sql(Equal("key", "text", key)))
        else:
            row = pa.table({"key": [key], "value": [value]}, schema=SCHEMA)
            table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(row)
        self._read, self._fresh_until = (-1, {}), 0.0

    def maintain(self, older_than: Any) -> None:  # noqa: ANN401 — a timedelta
        """Drop old versions of the table."""
        if TABLE in self._connection.list_tables().tables:
            self._table().optimize(cleanup_older_than=older_than)

    def create(self) -> None:
        """Make the place ours."""
        self._connection.create_table(TABLE, schema=SCHEMA, exist_ok=True)

    def _rows(self, where: str) -> dict[str, str]:
        rows = self._table().search().where(where).select(["key", "value"]).to_arrow()
        return dict(zip(rows["key"].to_pylist(), rows["value"].to_pylist(), strict=True))

    def _table(self) -> Any:  # noqa: ANN401
        with self._lock:
            if self._opened is None:
                self._opened = self._connection.open_table(TABLE)
            return self._opened

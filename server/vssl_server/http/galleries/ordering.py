"""Rows in the order of a column, page by page.

A cursor holds the last row's value and id. So it leads on where that row has gone or changed meanwhile, as the page of
somebody does who labels and deletes what it shows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from vssl_gallery.store.filters import Filter
from vssl_gallery.view import View
from vssl_server.wire.errors import invalid_option

Order = Literal["asc", "desc"]


@dataclass(frozen=True)
class Ordered:
    """N ids in order, and the number of each by which they are ordered: None for ids ordered by themselves.

    Numbers come before nulls, and equal ones by their ids.
    """

    ids: pa.Array
    keys: pa.Array | None
    order: Order

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], column: str, order: Order) -> "Ordered":
        """The rows of a scan with that column: `id`, or one of numbers or times."""
        parts = list(batches)
        ids = _joined([part["id"] for part in parts], pa.string())
        direction = "ascending" if order == "asc" else "descending"
        if column == "id":
            return cls(ids.take(pc.sort_indices(pa.table({"id": ids}), [("id", direction)])), None, order)
        keys = _joined([_numbers(part[column]) for part in parts], pa.float64())
        # Each null becomes an infinite number, which no row has, so that it comes last in both directions.
        last = pc.fill_null(keys, float("inf") if order == "asc" else float("-inf"))
        columns = pa.table({"key": last, "id": ids})
        places = pc.sort_indices(columns, [("key", direction), ("id", "ascending")])
        return cls(ids.take(places), keys.take(places), order)

    def page(self, after: str | None, limit: int, offset: int = 0) -> tuple[list[str], str | None]:
        """The next ids behind a cursor, or behind the first `offset`, and the cursor behind them; None at the end.

        Raises:
            ApiError: 422, it is no cursor of this order.
        """
        start = offset if after is None else self._behind(after)
        ids: list[str] = self.ids[start : start + limit].to_pylist()
        end = start + len(ids)
        return ids, self._cursor(end - 1) if ids and end < len(self.ids) else None

    @property
    def nbytes(self) -> int:
        """In memory."""
        return int(self.ids.nbytes) + (0 if self.keys is None else int(self.keys.nbytes))

    def _cursor(self, place: int) -> str:
        key = None if self.keys is None else self.keys[place].as_py()
        return orjson.dumps([key, self.ids[place].as_py()]).decode()

    def _behind(self, cursor: str) -> int:
        """The place of the first row behind the cursor."""
        key, name = _read(cursor)
        if self.keys is None:
            return _first(pc.greater(self.ids, name) if self.order == "asc" else pc.less(self.ids, name))
        later = pc.greater(self.ids, name)
        if key is None:
            return _first(pc.and_(self.keys.is_null(), later))
        beyond = pc.greater(self.keys, key) if self.order == "asc" else pc.less(self.keys, key)
        behind = pc.or_(beyond, pc.and_(pc.equal(self.keys, key), later))
        return _first(pc.fill_null(behind, True))


def ordered_rows(view: View, column: str, order: Order, where: Filter | None) -> Ordered:
    """The rows that a view shows of those that a filter leaves."""
    return Ordered.of(view.scan(where, [] if column == "id" else [column]), column, order)


def _numbers(column: pa.Array) -> pa.Array:
    """As float64, which holds times in microseconds for centuries; null where it is not finite."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    numbers = column.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def _joined(parts: list[pa.Array], kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays([part.cast(kind) for part in parts]) if parts else pa.array([], kind)


def _first(marks: pa.Array) -> int:
    place = pc.index(marks, True).as_py()
    return len(marks) if place < 0 else int(place)


def _read(cursor: str) -> tuple[float | None, str]:
    try:
        match orjson.loads(cursor):
            case [None | int() | float() as key, str() as name]:
                return key if key is None else float(key), name
    except (orjson.JSONDecodeError, OverflowError):
        pass
    raise invalid_option("after: take `next` of the answer before", "after")

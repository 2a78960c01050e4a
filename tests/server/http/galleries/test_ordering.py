"""Rows in the order of a column, beside Python's own sorting."""

import math
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssl_server.http.galleries.ordering import Ordered
from vssl_server.wire.errors import ApiError

NUMBERS = st.none() | st.sampled_from([0.0, 1.0, math.nan]) | st.floats(-9, 9, width=32)
ROWS = st.dictionaries(st.text("ab/é", min_size=1, max_size=4), NUMBERS, max_size=20)
ORDERS: st.SearchStrategy[Literal["asc", "desc"]] = st.sampled_from(["asc", "desc"])


def ordered(rows: dict[str, float | None], column: str, order: Literal["asc", "desc"]) -> Ordered:
    """As the scan of a gallery gives them, in two parts."""
    names = list(rows)
    half = len(names) // 2
    parts = [
        pa.record_batch({"id": pa.array(some, pa.string()), "n": pa.array([rows[name] for name in some], pa.float32())})
        for some in (names[:half], names[half:])
    ]
    return Ordered.of(parts, column, order)


def oracle(rows: dict[str, float | None], column: str, order: Literal["asc", "desc"]) -> list[str]:
    if column == "id":
        return sorted(rows, key=str.encode, reverse=order == "desc")
    sign = 1 if order == "asc" else -1

    def key(name: str) -> tuple[bool, float, bytes]:
        value = rows[name]
        unknown = value is None or math.isnan(value)
        return unknown, 0 if value is None or unknown else sign * value, name.encode()

    return sorted(rows, key=key)


@settings(max_examples=40)
@given(ROWS, st.sampled_from(["id", "n"]), ORDERS, st.integers(1, 5), st.data())
def test_pages_hold_every_row_once_though_rows_go_between_them(
    rows: dict[str, float | None], column: str, order: Literal["asc", "desc"], limit: int, data: st.DataObject
) -> None:
    shown: list[str] = []
    left, gone, after = dict(rows), set[str](), None
    while True:
        page, after = ordered(left, column, order).page(after, limit)
        shown += page
        if after is None:
            break
        for name in data.draw(st.lists(st.sampled_from(list(left)), max_size=2, unique=True)) if len(left) > 2 else []:
            gone.add(name)
            del left[name]
    expected = oracle(rows, column, order)
    assert [name for name in shown if name not in gone] == [name for name in expected if name not in gone]
    assert len(set(shown)) == len(shown)
    assert shown == [name for name in expected if name in set(shown)]


@pytest.mark.parametrize("cursor", ["", "a", "[1]", '["a", "b"]', "[1, 2]", "{}", "[true]", '[1e999, "a"]'])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ApiError, match="after"):
        ordered({"a": 1.0}, "n", "asc").page(cursor, 1)


def test_nothing_has_no_pages() -> None:
    assert Ordered.of([], "n", "asc").page(None, 3) == ([], None)

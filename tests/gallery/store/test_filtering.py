"""Every driver means by a filter what the evaluator in Python means, whatever texts and numbers are in it."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gallery.samples import FIELDS, SPEC, some_rows, unit_vectors
from vssl_gallery.store.columns import Kind, kinds
from vssl_gallery.store.contract import Store
from vssl_gallery.store.filters import ids, matches, parse_filter
from vssl_gallery.store.rows import TYPES, checked

Create = Callable[..., Store]

HOSTILE = [
    "'; DROP TABLE gallery; --",
    "' OR '1'='1",
    "\\'; SELECT 1; --",
    '"); DROP TABLE x; --',
    "`id` IS NOT NULL",
    "$1 %s {0} ${x}",
    "a''b",
    "\\",
    "é🐘\u202e\ufeff",
    "\n\r\t\x01",
    "NULL",
    "",
    " ",
    "%_*?",
    "<script>alert(1)</script>",
]
VALUES: dict[Kind, list[Any]] = {
    "text": [*HOSTILE, "a", "A", "aa", "b", "ä", "z", "\U0001f600", "\uffff"],
    "integer": [0, 1, -1, 7, 2020, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)],
    "number": [0.0, -0.0, 0.1, -0.1, 1e300, -1e300, 5e-324, 3.0, 2.5, 1 / 3, 2.0**53],
    "single": [0.0, 0.1, -0.1, 1e30, 1e-40, 3, 1 / 3],
    "boolean": [True, False],
    "time": [
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(9999, 12, 30, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=30),
    ],
}
COLUMNS = {name: kind for name, kind in kinds(FIELDS).items() if name != "size"}
ROWS = 60


def hostile_rows() -> pa.Table:
    """Every value in some row, and rows without."""
    draw = random.Random(0)
    columns = {
        name: pa.array([draw.choice([None, *VALUES[kind]]) for _ in range(ROWS)], TYPES[kind])
        for name, kind in COLUMNS.items()
        if name not in ("id", "path", "added_at")
    }
    names = [text or "empty" for text in VALUES["text"]] + [f"image-{number}" for number in range(ROWS)]
    return some_rows(ROWS, **{"id": names[:ROWS], "path": names[:ROWS][::-1], **columns})


def conditions(column: str) -> st.SearchStrategy[Any]:
    kind = COLUMNS[column]
    near = {"text": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)}
    value = st.one_of(st.sampled_from(VALUES[kind]), near.get(kind, st.nothing()))
    operators = [
        st.one_of(value, st.none()),
        st.fixed_dictionaries({"$eq": st.one_of(value, st.none())}),
        st.fixed_dictionaries({"$ne": st.one_of(value, st.none())}),
        st.fixed_dictionaries({"$in": st.lists(value, max_size=4)}),
        st.fixed_dictionaries({"$exists": st.booleans()}),
    ]
    if kind != "boolean":
        orders = st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), value, min_size=1, max_size=2)
        operators += [orders, orders]
    return st.one_of(operators).map(lambda condition: {column: condition})


leaves = st.sampled_from(sorted(COLUMNS)).flatmap(conditions)
trees = st.recursive(
    leaves,
    lambda parts: st.one_of(
        st.builds(lambda part: {"$not": part}, parts),
        st.builds(lambda several: {"$and": several}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda several: {"$or": several}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda one, other: {**one, **other}, parts, parts),
    ),
    max_leaves=6,
)


def test_a_filter_means_what_it_says(create: Create, address: str) -> None:
    store = create()
    rows = hostile_rows()
    store.upsert(rows)
    plain = checked(rows, SPEC).select(list(COLUMNS)).to_pylist()
    query = unit_vectors(1)

    # Qdrant's local mode is Python, and asks each row for each condition.
    @settings(max_examples=25 if address.startswith("qdrant") else 100)
    @given(trees)
    def means(document: Any) -> None:
        where = parse_filter(document, FIELDS)
        expected = sorted(row["id"] for row in plain if matches(where, row))
        found = [name for batch in store.scan(where) for name in batch["id"].to_pylist()]
        assert sorted(found) == expected
        assert store.search(query, 5, where).rows.num_rows == min(5, len(expected))
        assert store.count(where) == len(expected)

    means()
    assert store.count() == ROWS


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_a_text(create: Create, text: str) -> None:
    store = create()
    name = text or "x"
    store.upsert(some_rows(2, id=[name, "other"], label=[text, "b"], name=[text, None], meta=[text, None]))
    store.write_record(f"record {name}", text)
    assert store.read_record(f"record {name}") == text
    found = next(iter(store.scan(ids([name]), ["label", "name", "meta"]))).to_pylist()
    assert found == [{"id": name, "label": text, "name": text, "meta": text}]
    assert store.page(None, 5, parse_filter({"label": text}, FIELDS))["id"].to_pylist() == [name]
    assert store.page("", 5)["id"].to_pylist() == sorted([name, "other"])
    assert store.page(name, 5)["id"].to_pylist() == sorted(each for each in [name, "other"] if each > name)
    assert store.count_by("label") == {text: 1, "b": 1}
    assert store.delete(ids([name])).rows == 1
    assert store.count() == 1


def test_ten_thousand_ids_at_once(create: Create) -> None:
    store = create()
    store.upsert(some_rows(30))
    assert store.count(ids([f"image-{number}" for number in range(20, 10_020)])) == 10

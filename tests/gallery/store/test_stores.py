"""What every store does with rows: put, find, scan, page, count, take, delete, maintain, remember."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from tests.gallery.samples import DIMENSION, FIELDS, SPEC, as_rows, some_rows, unit_vectors
from vssl.arrays import Float32s
from vssl.search.nearest import nearest
from vssl_gallery.errors import InvalidRows, VersionUnknown
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.contract import Keys, Spec, Store, Version
from vssl_gallery.store.filters import Filter, ids, parse_filter
from vssl_gallery.store.rows import checked, schema, vectors

Create = Callable[..., Store]
ALL = schema(SPEC).names


def where(document: object) -> Filter | None:
    return parse_filter(document, FIELDS)


def table_of(store: Store, columns: list[str], condition: Filter | None = None) -> pa.Table:
    parts = list(store.scan(condition, columns))
    return pa.Table.from_batches(parts).sort_by("id") if parts else schema(SPEC).empty_table().select(columns)


def test_a_new_gallery_is_empty(create: Create) -> None:
    store = create()
    assert store.spec == SPEC
    assert store.info().rows == store.count() == 0
    assert store.search(unit_vectors(2), 3).rows.num_rows == 0
    assert sum(part.num_rows for part in store.scan()) == 0
    assert store.page(None, 10).num_rows == 0
    assert store.keys().keys.tolist() == []
    assert store.count_by("label") == {}
    assert store.delete(None).rows == 0
    store.maintain()
    assert store.info().rows == 0


def test_rows_come_back_as_they_were_put(create: Create) -> None:
    store = create()
    rows = some_rows(
        3,
        name=["a 'quoted' text", '\\ " ` \n % _ é 🐘', None],
        year=[-(2**63), 2**63 - 1, None],
        price=[0.1, -1e300, None],
        sold=[True, False, None],
        seen=some_rows(3)["added_at"],
        meta=['{"a": [1]}', None, "{}"],
        thumbnail=[b"\xff\xd8\0jpeg", None, b""],
        variance=pa.array([[0.5] * DIMENSION, None, [1.0] * DIMENSION], schema(SPEC).field("variance").type),
        ood=[True, False, None],
        width=[640, None, 1],
    )
    written = store.upsert(rows)
    assert written.rows == 3
    found = table_of(store, ALL)
    assert found.column_names == ALL
    expected = checked(rows, SPEC).sort_by("id")
    assert as_rows(found) == as_rows(expected)
    assert (vectors(found["embedding"]) == vectors(expected["embedding"])).all()
    assert found["variance"].to_pylist() == expected["variance"].to_pylist()


def test_put_twice_is_put_once(create: Create) -> None:
    store = create()
    first = store.upsert(some_rows(50, year=[1] * 50))
    second = store.upsert(some_rows(50, first=25, year=[2] * 50))
    assert second.version > first.version
    assert store.count() == store.info().rows == 75
    found = table_of(store, ["year", "label"])
    assert {row["id"]: row["year"] for row in as_rows(found)} == {
        f"image-{number}": 1 if number < 25 else 2 for number in range(75)
    }
    assert store.upsert(some_rows(0)).rows == 0


def test_rows_that_are_refused_change_nothing(create: Create) -> None:
    store = create()
    store.upsert(some_rows(3))
    version = store.info().version
    with pytest.raises(InvalidRows):
        store.upsert(some_rows(3, id=["a", "b", None]))
    with pytest.raises(InvalidRows):
        store.upsert(some_rows(3, dimension=8))
    assert store.count() == 3
    assert store.info().version == version


def test_search_finds_the_nearest_in_order(create: Create) -> None:
    store = create()
    rows = some_rows(500)
    store.upsert(rows)
    queries = unit_vectors(7, seed=1)
    found = store.search(queries, 5, columns=["label", "embedding"])
    truth = nearest(queries, vectors(rows["embedding"]), 5)
    assert found.rows.column_names == ["query", "similarity", "id", "label", "embedding"]
    assert found.rows["query"].to_pylist() == np.repeat(range(7), 5).tolist()
    assert found.rows["id"].to_pylist() == [f"image-{row}" for row in truth.rows.ravel()]
    assert found.rows["similarity"].to_numpy() == pytest.approx(truth.similarity.ravel(), abs=1e-5)
    assert (found.exact, found.version) == (True, store.info().version)
    labels = rows["label"].to_pylist()
    assert found.rows["label"].to_pylist() == [labels[row] for row in truth.rows.ravel()]


def test_search_by_one_vector_and_by_none(create: Create) -> None:
    store = create()
    store.upsert(some_rows(10))
    one = store.search(unit_vectors(1), 3).rows
    assert one["query"].to_pylist() == [0, 0, 0]
    none = store.search(np.zeros((0, DIMENSION), np.float32), 3, columns=["label"]).rows
    assert none.num_rows == 0
    assert none.schema == store.search(unit_vectors(1), 3, columns=["label"]).rows.schema


def test_many_queries_at_once(create: Create) -> None:
    store = create()
    store.upsert(some_rows(30))
    queries = vectors(some_rows(30)["embedding"])
    found = store.search(np.tile(queries, (8, 1)), 1).rows
    assert found["id"].to_pylist() == [f"image-{number}" for number in range(30)] * 8


@pytest.mark.parametrize("rare", [1, 3, 40])
def test_a_filter_loses_no_result(create: Create, rare: int) -> None:
    store = create()
    count = 400
    rows = some_rows(count, year=[int(number < rare) for number in range(count)])
    store.upsert(rows)
    queries = unit_vectors(5, seed=2)
    found = store.search(queries, 10, where({"year": 1})).rows
    truth = nearest(queries, vectors(rows["embedding"])[:rare], 10)
    assert found["id"].to_pylist() == [f"image-{row}" for row in truth.rows.ravel()]


@pytest.mark.parametrize(
    "bad",
    [
        np.ones((2, DIMENSION), np.float32),
        unit_vectors(2, 8),
        unit_vectors(2)[0],
        np.full((1, DIMENSION), np.nan, np.float32),
    ],
    ids=["length", "dimension", "shape", "nan"],
)
def test_vectors_that_nothing_can_be_searched_by(create: Create, bad: Float32s) -> None:
    with pytest.raises(InvalidRows):
        create().search(bad, 3)


def test_columns_that_are_not_there(create: Create) -> None:
    store = create()
    store.upsert(some_rows(2))
    keys = store.keys()
    for read in (
        lambda: store.search(unit_vectors(1), 1, columns=["colour"]),
        lambda: list(store.scan(None, ["id; DROP TABLE x"])),
        lambda: store.page(None, 1, None, ["colour"]),
        lambda: store.take(keys, ["colour"]),
        lambda: store.count_by("colour"),
    ):
        with pytest.raises(InvalidRows, match="no column"):
            read()


def test_pages_go_through_all_rows_by_id(create: Create) -> None:
    store = create()
    store.upsert(some_rows(25, id=[f"é{number}" if number % 2 else f"Z{number}" for number in range(25)]))
    seen: list[str] = []
    after = None
    while (page := store.page(after, 10, where({"label": {"$ne": "a"}}), ["label"])).num_rows:
        assert page.column_names == ["id", "label"]
        seen += page["id"].to_pylist()
        after = seen[-1]
    expected = [row["id"] for row in as_rows(table_of(store, ["label"])) if row["label"] != "a"]
    assert seen == sorted(expected)


def test_counts(create: Create) -> None:
    store = create()
    store.upsert(some_rows(70, sold=[number % 2 == 0 for number in range(70)]))
    assert store.count(where({"label": "a"})) == 20
    assert store.count_by("label") == {"a": 20, "b": 20, "c": 20, None: 10}
    assert store.count_by("sold", where({"label": None})) == {True: 5, False: 5}
    assert store.count_by("width") == {None: 70}


def test_delete_by_filter_and_by_id(create: Create) -> None:
    store = create()
    store.upsert(some_rows(70))
    gone = store.delete(where({"label": "a"}))
    assert gone.rows == 20
    assert store.count() == 50
    assert store.delete(ids(["image-1", "image-2", "no such image"])).rows == 2
    assert store.count(ids(["image-1"])) == 0
    assert "image-1" not in store.search(unit_vectors(1), 70).rows["id"].to_pylist()
    assert store.delete(None).rows == 48
    assert store.count() == 0


def test_a_key_names_one_state_of_a_row(create: Create) -> None:
    store = create()
    store.upsert(some_rows(30))
    keys = store.keys()
    assert len(set(keys.keys.tolist())) == 30
    assert keys.version == store.info().version
    taken = store.take(keys, ["embedding", "year"])
    assert taken.column_names == ["key", "id", "embedding", "year"]
    assert taken["key"].to_pylist() == keys.keys.tolist()
    by_key = dict(zip(taken["key"].to_pylist(), taken["id"].to_pylist(), strict=True))
    assert set(by_key.values()) == {f"image-{number}" for number in range(30)}
    store.upsert(some_rows(5, year=[7] * 5))
    store.delete(ids(["image-20"]))
    now = store.keys()
    fresh = set(now.keys.tolist()) - set(keys.keys.tolist())
    assert len(fresh) == 5
    assert {by_key[key] for key in set(keys.keys.tolist()) - set(now.keys.tolist())} == {
        *(f"image-{number}" for number in range(5)),
        "image-20",
    }
    scanned = table_of(store, ["key", "year"], where({"year": 7}))
    assert scanned.column_names == ["id", "key", "year"]
    assert set(scanned["key"].to_pylist()) == fresh
    backwards = Keys(np.array(sorted(fresh, reverse=True)), now.version)
    assert store.take(backwards)["key"].to_pylist() == backwards.keys.tolist()
    assert set(store.keys(where({"year": 7})).keys.tolist()) == fresh
    assert store.take(Keys(np.array([], np.int64), now.version), ["label"]).num_rows == 0


def test_reads_see_what_was_written_and_wait_for_others(create: Create) -> None:
    store = create()
    written = store.upsert(some_rows(3))
    assert store.version() == store.info().version >= written.version
    store.reach(written.version)
    assert store.search(unit_vectors(1), 1).version >= written.version
    with pytest.raises(VersionUnknown, match="no version"):
        store.reach(Version(written.version + 1_000_000), timeout=0.1)


def test_maintenance_keeps_every_row(create: Create) -> None:
    store = create()
    for number in range(8):
        store.upsert(some_rows(20, first=10 * number))
    store.delete(where({"label": "b"}))
    before = as_rows(table_of(store, ["label", "added_at"]))
    report = store.maintain()
    assert report.actions
    assert report.info.rows == len(before)
    assert as_rows(table_of(store, ["label", "added_at"])) == before
    assert store.maintain().info.rows == len(before)


def test_a_gallery_remembers_texts(create: Create) -> None:
    store = create()
    assert store.read_record("calibration") is None
    store.write_record("calibration", '{"a": "\'é"}')
    store.write_record("other", "x" * 100_000)
    assert store.read_record("calibration") == '{"a": "\'é"}'
    store.write_record("calibration", "2")
    assert store.read_record("calibration") == "2"
    store.write_record("calibration", None)
    assert store.read_record("calibration") is None
    assert store.read_record("other") == "x" * 100_000


def test_fields_with_the_names_of_words_in_databases(create: Create) -> None:
    fields: dict[str, FieldType] = {"select": "text", "xmin": "integer", "Order": "integer", "user": "boolean"}
    spec = Spec("encoder-1", DIMENSION, fields)
    store = create(spec)
    store.upsert(some_rows(4, select=list("abcd"), xmin=[1, 2, 3, 4], Order=[4, 3, 2, 1], user=[True] * 4))
    condition = parse_filter({"select": {"$gt": "a"}, "Order": {"$gte": 2}, "xmin": {"$lt": 9}}, spec.fields)
    found = pa.Table.from_batches(list(store.scan(condition, ["select", "Order"]))).sort_by("id")
    assert found.to_pylist() == [
        {"id": "image-1", "select": "b", "Order": 3},
        {"id": "image-2", "select": "c", "Order": 2},
    ]

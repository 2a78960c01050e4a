"""A view never shows, changes or deletes a row outside its filter, whatever is asked of it; the oracle is `matches`."""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gallery.samples import FIELDS, SPEC, as_rows, some_rows
from vssl.errors import UsageError
from vssl_gallery.curating import find_duplicates, find_outliers, map_of, pick_next
from vssl_gallery.errors import InvalidRows, OutsideFilter
from vssl_gallery.gallery import Gallery
from vssl_gallery.map import main_directions
from vssl_gallery.store.contract import Place, Store
from vssl_gallery.store.filters import And, ids, matches, parse_filter
from vssl_gallery.store.opening import open_place
from vssl_gallery.view import View

ROWS = 12
READABLE = ["label", "year", "name", "uncertainty"]
names = (f"view-{number}" for number in count())
filters = st.recursive(
    st.sampled_from(
        [
            {"year": {"$gte": 2003}},
            {"year": {"$ne": 2001}},
            {"label": "a"},
            {"label": None},
            {"name": {"$in": ["n0", "n1"]}},
            {"uncertainty": {"$lt": 0.5}},
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda one: {"$not": one}), st.lists(inner, min_size=1, max_size=2).map(lambda some: {"$or": some})
    ),
    max_leaves=3,
)
places = st.integers(0, ROWS + 1).map("image-{}".format)


def rows_of(first: int = 0, number: int = ROWS) -> pa.Table:
    years = pa.array([None if row % 5 == 4 else 2000 + row % 6 for row in range(first, first + number)], pa.int64())
    return some_rows(number, first, year=years, name=[f"n{row % 3}" for row in range(first, first + number)])


@pytest.fixture(scope="module")
def lance(lance_address: str) -> Iterator[Place]:
    place = open_place(lance_address)
    yield place
    place.close()


@pytest.fixture(scope="module")
def shared(lance: Place) -> Gallery:
    gallery = Gallery.create(lance, next(names), SPEC)
    gallery.add(rows_of())
    return gallery


def stored(gallery: Gallery) -> dict[str, dict[str, object]]:
    batches = list(gallery.store.scan(None, READABLE))
    return {row["id"]: row for row in as_rows(pa.Table.from_batches(batches))} if batches else {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(own=filters, given_filter=st.none() | filters, asked=st.lists(places, max_size=5, unique=True))
def test_no_read_leaves_the_filter(shared: Gallery, own: object, given_filter: object, asked: list[str]) -> None:
    parsed = parse_filter(own, FIELDS)
    view = View(shared, parsed)
    where = parse_filter(given_filter, FIELDS)
    inside = {name for name, row in stored(shared).items() if matches(parsed, row)}
    both = {name for name in inside if matches(where, stored(shared)[name])}
    assert view.rows(asked)["id"].to_pylist() == [name for name in asked if name in inside]
    assert set(view.page(None, 100, where)["id"].to_pylist()) == both
    assert {name for batch in view.scan(where) for name in batch["id"].to_pylist()} == both
    assert view.count(where) == len(both) == sum(view.count_by("label", where).values())
    queries = shared.queries(["image-0"])
    assert set(view.search(queries, k=100, where=where).rows["id"].to_pylist()) == both
    answer = view.classify(queries, where=where).answers[0]
    assert set(answer.neighbours) == {name for name in both if stored(shared)[name]["label"] is not None}
    for name in asked:
        if name not in inside:
            with pytest.raises(InvalidRows, match="no such row"):
                view.queries([name])
    curated = [find_outliers(shared, where=parsed), map_of(shared, main_directions, parsed)]
    assert {one.id for one in curated[0]} == set(curated[1].ids) == inside  # type: ignore[attr-defined]
    assert set(pick_next(shared, 100, where=parsed)) <= inside
    assert {name for one in find_duplicates(shared, 0.1, parsed) for name in [one.kept, *one.others]} <= inside


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(own=filters, first=st.integers(0, ROWS), asked=st.lists(places, max_size=4, unique=True), doomed=filters)
def test_no_write_reaches_outside(lance: Place, own: object, first: int, asked: list[str], doomed: object) -> None:
    parsed = parse_filter(own, FIELDS)
    gallery = Gallery.create(lance, next(names), SPEC)
    gallery.add(rows_of())
    view = View(gallery, parsed)
    others = {name: row for name, row in stored(gallery).items() if not matches(parsed, row)}

    def unharmed() -> bool:
        return {name: row for name, row in stored(gallery).items() if not matches(parsed, row)} == others

    put = rows_of(first, 2)
    fits = all(matches(parsed, row) for row in as_rows(put)) and not others.keys() & set(put["id"].to_pylist())
    if fits:
        view.add(put)
    else:
        with pytest.raises(OutsideFilter):
            view.add(put)
    assert unharmed()
    before = stored(gallery)
    changed = [before[name] | {"label": "z"} for name in asked if name in before and name not in others]
    if all(matches(parsed, row) for row in changed):
        assert view.change(asked, {"label": "z"}).rows == len(changed)
    else:
        with pytest.raises(OutsideFilter):
            view.change(asked, {"label": "z"})
        assert stored(gallery) == before
    assert unharmed()
    where = And((ids(asked), parse_filter(doomed, FIELDS)))  # type: ignore[arg-type]
    counted = view.delete(where, dry_run=True).rows
    assert view.delete(where).rows == counted
    assert unharmed()
    with pytest.raises(UsageError, match="empty filter"):
        view.delete({})
    lance.drop(gallery.name)


def test_every_driver_keeps_a_tenant_apart(create: Callable[..., Store]) -> None:
    gallery = Gallery(create(SPEC))
    gallery.add(rows_of())
    view = View(gallery, parse_filter({"name": "n1"}, FIELDS))
    mine = [f"image-{row}" for row in range(1, ROWS, 3)]
    assert view.rows([f"image-{row}" for row in range(ROWS)])["id"].to_pylist() == mine
    assert view.search(gallery.queries(["image-0"]), k=50).rows.num_rows == len(mine)
    with pytest.raises(OutsideFilter, match="taken"):
        view.add(some_rows(1, name=["n1"]))
    with pytest.raises(OutsideFilter, match="image-1"):
        view.change(["image-0", "image-1"], {"name": "n2"})
    assert view.change(["image-0", "image-1"], {"label": "new"}).rows == 1
    assert view.delete(ids(["image-0", "image-4"])).rows == 1
    assert gallery.store.count() == ROWS - 1
    assert np.isin(find_outliers(gallery, where=view.own)[0].id, mine)

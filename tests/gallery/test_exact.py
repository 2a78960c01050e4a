"""Exact search finds what comparing with every row finds, whatever is put, deleted and compacted in between."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gallery.samples import FIELDS, some_rows, unit_vectors
from vssl.arrays import Float32s
from vssl.search.nearest import Neighbours, nearest
from vssl_gallery.errors import InvalidRows
from vssl_gallery.exact import ExactSearch
from vssl_gallery.gathering import Gathered
from vssl_gallery.store.contract import Found, Store, Version
from vssl_gallery.store.filters import ids, parse_filter
from vssl_gallery.store.rows import vectors

Create = Callable[..., Store]
QUERIES = unit_vectors(6, seed=99)


def truth(rows: dict[str, Float32s], queries: Float32s, k: int) -> list[str]:
    """The ids of the k nearest of each query, one after the other."""
    names = list(rows)
    if not names:
        return []
    return [names[row] for row in nearest(queries, np.stack(list(rows.values())), k).rows.ravel()]


def test_what_is_found_is_the_nearest(create: Create) -> None:
    store = create()
    rows = some_rows(300)
    store.upsert(rows)
    search = ExactSearch(store)
    found = search.search(QUERIES, 4, columns=["label", "embedding"])
    assert found.exact
    assert found.version == store.version()
    assert found.rows.column_names == ["query", "similarity", "id", "label", "embedding"]
    plain = store.search(QUERIES, 4, columns=["label", "embedding"], exact=True).rows
    assert found.rows.drop_columns("similarity").equals(plain.drop_columns("similarity"))
    assert found.rows.schema == plain.schema
    assert found.rows["similarity"].to_numpy() == pytest.approx(plain["similarity"].to_numpy(), abs=1e-5)


def test_an_empty_gallery_and_no_query(create: Create) -> None:
    search = ExactSearch(create())
    assert search.search(QUERIES, 4).rows.num_rows == 0
    assert search.search(QUERIES[:0], 4).rows.num_rows == 0
    with pytest.raises(InvalidRows):
        search.search(2 * QUERIES, 4)


@pytest.mark.parametrize("matching", [0, 1, 3, 60, 290, 300])
def test_a_filter_loses_no_result(create: Create, matching: int) -> None:
    store = create()
    rows = some_rows(300, year=[int(number < matching) for number in range(300)])
    store.upsert(rows)
    found = ExactSearch(store).search(QUERIES, 5, parse_filter({"year": 1}, FIELDS)).rows
    every = dict(zip(rows["id"].to_pylist(), vectors(rows["embedding"]), strict=True))
    assert found["id"].to_pylist() == truth(dict(list(every.items())[:matching]), QUERIES, 5)


def test_more_rows_than_memory_are_found_by_the_store(create: Create) -> None:
    store = create()
    store.upsert(some_rows(300))
    few = ExactSearch(store, exact_rows=299)
    exact = ExactSearch(store).search(QUERIES, 5, columns=["label"])
    for _ in range(2):  # the first counts the rows
        found = few.search(QUERIES, 5, columns=["label"])
        assert found.version == store.version()
        assert found.exact == store.search(QUERIES, 5).exact
        assert found.rows.drop_columns("similarity").equals(exact.rows.drop_columns("similarity"))
        assert found.rows.schema == exact.rows.schema
    assert few.search(QUERIES, 5, exact=True).exact
    assert few.column().version == store.version()
    store.delete(ids(["image-7"]))
    found = few.search(QUERIES, 5)
    assert (found.exact, found.version) == (True, store.version())
    assert "image-7" not in found.rows["id"].to_pylist()
    store.upsert(some_rows(300))
    assert few.search(QUERIES, 5).rows["id"].to_pylist() == exact.rows["id"].to_pylist()


@pytest.mark.parametrize(("exact_rows", "times"), [(30, 1), (29, 0)])
def test_a_search_asks_for_the_version_once_at_most(
    create: Create, exact_rows: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server or a bucket each time is a trip."""
    store = create()
    store.upsert(some_rows(30))
    search, where = ExactSearch(store, exact_rows), parse_filter({"label": {"$exists": True}}, FIELDS)
    search.search(QUERIES, 4, where, ["label"])
    asked, version, find = itertools.count(), store.version, store.search

    def counted() -> Version:
        next(asked)
        return version()

    def found(*given: Any) -> Found:
        with monkeypatch.context() as patch:  # what the store asks itself is its own
            patch.setattr(store, "version", version)
            return find(*given)

    monkeypatch.setattr(store, "version", counted)
    monkeypatch.setattr(store, "search", found)
    search.search(QUERIES, 4, where, ["label"])
    assert next(asked) == times


def test_searches_beside_writes_find_whole_states(create: Create) -> None:
    store = create()
    store.upsert(some_rows(60, year=[0] * 60))
    search, where = ExactSearch(store), parse_filter({"year": {"$gte": 0}}, FIELDS)
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for year in range(1, 6):
                store.upsert(some_rows(60, year=[year] * 60))
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while True:
        last = not writer.is_alive()
        found = search.search(QUERIES, 5, where, ["year"]).rows
        assert found.num_rows == 5 * len(QUERIES)
        assert found["id"].to_pylist() == truth(dict(zip(NAMES, VECTORS, strict=True)), QUERIES, 5)
        assert len(set(found["year"].to_pylist())) == 1
        if last:
            break
    assert failed == []
    assert set(found["year"].to_pylist()) == {5}


NAMES, VECTORS = some_rows(60)["id"].to_pylist(), vectors(some_rows(60)["embedding"])

step = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 40), st.integers(1, 20), st.integers(0, 5)),
    st.tuples(st.just("delete"), st.integers(0, 40), st.integers(1, 30), st.just(0)),
    st.tuples(st.just("maintain"), st.just(0), st.just(0), st.just(0)),
)


def test_it_follows_the_gallery(create: Create) -> None:
    store = create()

    @settings(max_examples=12)
    @given(steps=st.lists(step, min_size=1, max_size=6))
    def follows(steps: list[tuple[str, int, int, int]]) -> None:
        store.delete(None)
        check(store, steps)

    follows()


def check(store: Store, steps: list[tuple[str, int, int, int]]) -> None:
    search, rows = ExactSearch(store), dict[str, Float32s]()
    for what, first, count, seed in steps:
        if what == "put":
            more = some_rows(count, first=first, seed=seed)
            store.upsert(more)
            rows |= dict(zip(more["id"].to_pylist(), vectors(more["embedding"]), strict=True))
        elif what == "delete":
            gone = [f"image-{number}" for number in range(first, first + count)]
            store.delete(ids(gone))
            rows = {name: vector for name, vector in rows.items() if name not in gone}
        else:
            store.maintain()
        found = search.search(QUERIES, 3)
        assert found.rows["id"].to_pylist() == truth(rows, QUERIES, 3)
        assert sorted(search.column().dense().keys.tolist()) == sorted(store.keys().keys.tolist())


def test_searches_of_many_threads_are_computed_together() -> None:
    calls: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def compute(queries: Float32s, bank: Float32s, k: int) -> Neighbours:
        calls.append(len(queries))
        begun.set()
        assert go.wait(60)
        if not queries[:, 0].all():
            raise ValueError("a query of zeros")
        return nearest(queries, bank, k)

    gathered = Gathered(compute)
    banks = [np.random.default_rng(seed).normal(size=(30, 4)).astype(np.float32) for seed in range(2)]
    queries = np.random.default_rng(9).normal(size=(12, 4)).astype(np.float32)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(gathered, queries[:1], banks[0], 3)
        assert begun.wait(60)
        others = [pool.submit(gathered, queries[n : n + 1], banks[n % 2], 3) for n in range(1, 12)]
        while len(gathered._waiting) < 11:
            time.sleep(0.001)
        go.set()
        found = [one.result(60) for one in (first, *others)]
        with pytest.raises(ValueError, match="zeros"):
            gathered(np.zeros((1, 4), np.float32), banks[0], 3)
    assert sorted(calls[:3]) == [1, 5, 6]
    for number, one in enumerate(found):
        wanted = nearest(queries[number : number + 1], banks[number % 2], 3)
        np.testing.assert_array_equal(one.rows, wanted.rows)
        np.testing.assert_allclose(one.similarity, wanted.similarity, atol=1e-6)


def test_who_is_answered_does_not_wait_for_those_that_came_later() -> None:
    first, later = threading.Event(), threading.Event()
    begun: list[str] = []

    def compute(queries: Float32s, of: str) -> Neighbours:
        begun.append(of)
        assert {"first": first, "later": later}.get(of, first).wait(60)
        return Neighbours(np.zeros((len(queries), 1), np.int64), np.ones((len(queries), 1), np.float32))

    gathered, query = Gathered(compute), np.ones((1, 4), np.float32)
    with ThreadPoolExecutor(6) as pool:
        asked = []
        for waiting, of in enumerate(("first", "both", "both", "later", "both")):
            asked.append(pool.submit(gathered, query, of))
            while len(gathered._waiting) + min(len(begun), 1) < waiting + 1:
                time.sleep(0.001)
        first.set()
        for one in (0, 1, 2, 4):
            asked[one].result(60)
        assert not asked[3].done()
        later.set()
        asked[3].result(60)
    assert begun == ["first", "both", "later"]

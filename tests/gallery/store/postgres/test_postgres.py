"""What is PostgreSQL's own: its index, alone and below filters."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gallery.samples import FIELDS, SPEC, some_rows, unit_vectors
from tests.gallery.store.postgres.server import PostgresServer
from vssl.arrays import Float32s
from vssl.search.nearest import nearest, normalised
from vssl_gallery.errors import UnknownGallery
from vssl_gallery.store.contract import Found, Store
from vssl_gallery.store.filters import matches, parse_filter
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.postgres import nearest as searching
from vssl_gallery.store.postgres import upkeep
from vssl_gallery.store.postgres.store import PostgresStore
from vssl_gallery.store.rows import vectors

ROWS, K = 3000, 10
# Planned as in a large gallery: in a small one PostgreSQL would rightly look at every row.
LARGE = "?options=-c%20enable_seqscan%3Doff%20-c%20enable_bitmapscan%3Doff"


@pytest.fixture(scope="module")
def indexed(postgres: PostgresServer) -> Iterator[tuple[Store, list[dict[str, Any]], Float32s]]:
    """A gallery with an index, its rows, and their vectors."""
    rng = np.random.default_rng(0)
    table = some_rows(ROWS, year=rng.integers(0, 50, ROWS), price=rng.random(ROWS), sold=rng.random(ROWS) < 0.5)
    place = open_place(postgres.address(options=LARGE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "INDEX_FROM", 1000)
        patch.setattr(searching, "FEW", 200)
        store = place.create("indexed", SPEC)
        store.upsert(table)
        assert any("built the index" in action for action in store.maintain().actions)
        yield store, table.drop_columns(["embedding"]).to_pylist(), vectors(table["embedding"])
    place.drop("indexed")
    place.close()


def queries(bank: Float32s, count: int = 40) -> Float32s:
    """Vectors near those of the gallery."""
    rng = np.random.default_rng(1)
    near = bank[rng.integers(len(bank), size=count)] + 0.1 * rng.standard_normal((count, bank.shape[1]))
    return normalised(near.astype(np.float32))


def recall(found: Found, asked: Float32s, bank: Float32s, places: list[int]) -> float:
    """The share of the true neighbours among the rows at some places, all of which must have been found if there."""
    wanted = min(K, len(places))
    assert found.rows.num_rows == wanted * len(asked)
    if not wanted:
        return 1.0
    true = np.array(places)[nearest(asked, bank[places], K).rows]
    names = [[f"image-{place}" for place in row] for row in true]
    got = np.array(found.rows["id"].to_pylist()).reshape(len(asked), wanted)
    return float(np.mean([len(set(a) & set(b)) / wanted for a, b in zip(names, got, strict=True)]))


def test_the_index_finds_the_nearest(
    indexed: tuple[Store, list[dict[str, Any]], Float32s], postgres: PostgresServer
) -> None:
    store, _, bank = indexed
    asked = queries(bank)
    found = store.search(asked, K)
    assert not found.exact
    assert recall(found, asked, bank, list(range(ROWS))) >= 0.99
    true = nearest(asked, bank, 1).similarity[:, 0]
    assert found.rows["similarity"].to_numpy()[::K] == pytest.approx(true, abs=1e-5)
    info = store.info()
    assert info.indexed_rows == ROWS
    assert info.recall is not None
    assert info.recall >= 0.99
    used = "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%embedding'"
    assert postgres.run(used)[0][0] > 0
    exact = store.search(asked, K, exact=True)
    assert exact.exact
    assert recall(exact, asked, bank, list(range(ROWS))) == 1


def test_single_queries_share_a_plan(indexed: tuple[Store, list[dict[str, Any]], Float32s]) -> None:
    store, _, bank = indexed
    assert isinstance(store, PostgresStore)
    for asked in queries(bank, 40)[:, None]:  # by two connections, perhaps
        found = store.search(asked, K, columns=["label"])
        assert not found.exact
        assert recall(found, asked, bank, list(range(ROWS))) >= 0.9
    # Were a plan for any vector thought dear, the server would make a new one each time.
    assert store._database.ask("SELECT max(generic_plans) FROM pg_prepared_statements")[0][0] >= 5


def test_a_plan_does_not_outlive_what_it_is_for(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_place(postgres.address(options=LARGE))
    store = place.create("planned", SPEC)
    rows = some_rows(60)
    store.upsert(rows)
    monkeypatch.setattr(upkeep, "INDEX_FROM", 50)
    for indexed in (False, True):
        for asked in vectors(rows["embedding"])[:30, None]:
            found = store.search(asked, 60)
            assert found.exact != indexed
            assert found.rows.num_rows == 60
        store.maintain()
    place.drop("planned")
    with pytest.raises(UnknownGallery):
        store.search(unit_vectors(1), 1)
    with pytest.raises(UnknownGallery):
        store.search(asked, 60)
    place.close()


conditions = st.one_of(
    st.builds(
        lambda sign, year: {"year": {sign: year}}, st.sampled_from(["$lt", "$gte", "$ne", "$eq"]), st.integers(0, 50)
    ),
    st.builds(lambda price: {"price": {"$lt": price}}, st.floats(0, 1)),
    st.builds(lambda labels: {"label": {"$in": labels}}, st.lists(st.sampled_from("abc"), max_size=2)),
    st.builds(lambda there: {"label": {"$exists": there}, "sold": there}, st.booleans()),
)
filters = st.recursive(
    conditions,
    lambda parts: st.one_of(
        st.builds(lambda a, b: {"$and": [a, b]}, parts, parts),
        st.builds(lambda a, b: {"$or": [a, b]}, parts, parts),
        st.builds(lambda a: {"$not": a}, parts),
    ),
    max_leaves=4,
)


@settings(max_examples=25)
@given(document=filters)
def test_a_filter_takes_nothing_from_the_index(
    indexed: tuple[Store, list[dict[str, Any]], Float32s], document: dict[str, Any]
) -> None:
    store, rows, bank = indexed
    where = parse_filter(document, FIELDS)
    places = [place for place, row in enumerate(rows) if matches(where, row)]
    asked = queries(bank, 8)
    assert store.count(where) == len(places)
    assert recall(store.search(asked, K, where), asked, bank, places) >= 0.99


def test_rows_that_are_far_away_are_found_all_the_same(
    indexed: tuple[Store, list[dict[str, Any]], Float32s], postgres: PostgresServer
) -> None:
    """The worst filter for an index: the farthest tenth of the rows, too many to count as few."""
    _, _, bank = indexed
    place = open_place(postgres.address(options=f"{LARGE}%20-c%20hnsw.max_scan_tuples%3D50"))
    store = place.open("indexed")
    asked = queries(bank, 1)
    far = np.argsort(bank @ asked[0])[: ROWS // 10].tolist()
    where = parse_filter({"id": {"$in": [f"image-{place}" for place in far]}}, FIELDS)
    both = np.concatenate([asked, bank[far[:1]]])
    found = store.search(both, K, where)
    assert recall(found, both, bank, far) == 1
    place.close()


def test_writes_behind_the_index_are_found(indexed: tuple[Store, list[dict[str, Any]], Float32s]) -> None:
    store, rows, bank = indexed
    new = some_rows(1, first=9999, id=["new"])
    try:
        store.upsert(new)
        assert store.search(vectors(new["embedding"]), 1).rows["id"].to_pylist() == ["new"]
        assert store.info().indexed_rows == ROWS + 1
    finally:
        store.delete(parse_filter({"id": "new"}, FIELDS))
    assert store.search(vectors(new["embedding"]), 1).rows["id"].to_pylist() != ["new"]
    assert store.count() == len(rows)
    assert len(bank) == ROWS


def test_a_place_that_is_older_than_the_first_gallery(postgres: PostgresServer) -> None:
    """Its connections were made before there was a type of vectors."""
    postgres.run("CREATE DATABASE bare")
    address = postgres.address(database="bare")
    early, late = open_place(address), open_place(address)
    assert early.galleries() == []
    late.create("first", SPEC).upsert(some_rows(3))
    store = early.open("first")
    store.upsert(some_rows(4))
    assert store.search(unit_vectors(2), 1).rows.num_rows == 2
    for place in (early, late):
        place.close()


def test_a_broken_index_is_built_again(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_place(postgres.address())
    store = place.create("broken", SPEC)
    store.upsert(some_rows(60))
    monkeypatch.setattr(upkeep, "INDEX_FROM", 50)
    store.maintain()
    (number,) = postgres.run("SELECT number FROM vssl.galleries WHERE name = 'broken'")[0]
    postgres.run(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'vssl.rows_{number}_embedding'::regclass")
    assert store.info().indexed_rows == 0  # as a build that was killed leaves it
    assert store.search(unit_vectors(1), 60).rows.num_rows == 60
    assert any("built the index" in action for action in store.maintain().actions)
    assert store.info().indexed_rows == 60
    place.drop("broken")
    with pytest.raises(UnknownGallery, match="somebody dropped it"):
        store.count()
    with pytest.raises(UnknownGallery, match="somebody dropped it"):
        store.upsert(some_rows(1))
    place.close()


@pytest.mark.parametrize(("machine", "slowly"), [("4GB", False), ("2MB", True)])
def test_an_index_is_built_in_memory_where_there_is_enough(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, name: str, machine: str, slowly: bool
) -> None:
    """PostgreSQL says when its graph no longer fits, after which each row takes many times as long."""
    place = open_place(postgres.address(options=f"?options=-c%20effective_cache_size%3D{machine}"))
    monkeypatch.setattr(upkeep, "INDEX_FROM", 50)
    monkeypatch.setattr(upkeep, "_LEAST", 1)  # so that a few thousand rows are much
    store = place.create(name, SPEC)
    store.upsert(some_rows(4000))
    built = next(action for action in store.maintain().actions if "built the index of 4,000 rows" in action)
    assert ("slowly: let the server's effective_cache_size" in built) == slowly
    assert store.info().indexed_rows == 4000
    place.drop(name)
    place.close()

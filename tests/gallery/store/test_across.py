"""The same rows in all stores: they move from one to the next, and every store finds the same."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.gallery.conftest import DRIVERS
from tests.gallery.samples import DIMENSION, FIELDS, SPEC, some_rows, unit_vectors
from vssl.search.nearest import nearest, normalised
from vssl_gallery.store.contract import Store
from vssl_gallery.store.filters import matches, parse_filter
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import schema, vectors
from vssl_gallery.store.snapshot import restore, write_snapshot

ALL = schema(SPEC).names


def rows_of(store: Store) -> pa.Table:
    return pa.Table.from_batches(list(store.scan(None, ALL))).sort_by("id").cast(schema(SPEC))


def test_a_snapshot_of_one_store_is_restored_in_another(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    places = [open_place(request.getfixturevalue(f"{driver}_address")) for driver in (*DRIVERS, DRIVERS[0])]
    variance = pa.array([[0.1] * DIMENSION, None] * 20, schema(SPEC).field("variance").type)
    more = {"variance": variance, "thumbnail": [b"\0\xff", None] * 20, "price": [0.1, None] * 20}
    first = places[0].create(name, SPEC)
    first.upsert(some_rows(40, year=[2**62 + 1, -5] * 20, meta=['{"b":1, "a":[2]}', None] * 20, **more))
    first.write_record("calibration", "{}")
    stores, queries, where = [first], unit_vectors(3, seed=3), parse_filter({"year": {"$gt": 2**62}}, FIELDS)
    for number, (old, new) in enumerate(pairwise(places)):
        write_snapshot(old.open(f"{name}{'-again' * (number == len(DRIVERS))}"), tmp_path / str(number))
        stores.append(restore(new, f"{name}{'-again' * (number + 1 == len(DRIVERS))}", tmp_path / str(number)))
    for store in stores[1:]:
        assert rows_of(store).equals(rows_of(first))
        assert store.read_record("calibration") == "{}"
        found, expected = (each.search(queries, 5, where, ["label"]).rows for each in (store, first))
        assert found.drop_columns(["similarity"]).equals(expected.drop_columns(["similarity"]))
        assert found["similarity"].to_numpy() == pytest.approx(expected["similarity"].to_numpy(), abs=1e-6)
    for place, store in zip(places, stores, strict=True):
        place.drop(store.name)
        place.close()


@pytest.mark.slow
def test_many_rows(create: Callable[..., Store], address: str) -> None:
    count = 5_000 if address.startswith("qdrant") else 100_000  # its local mode is Python
    store, draw = create(), np.random.default_rng(0)
    rows = some_rows(count, year=draw.integers(0, 1000, count), sold=draw.random(count) < 0.3)
    for start in range(0, count, 10_000):
        store.upsert(rows.slice(start, 10_000))
    store.maintain()
    assert store.count() == store.info().rows == count
    bank, plain = vectors(rows["embedding"]), rows.drop_columns(["embedding"]).to_pylist()
    noise = 0.1 * draw.standard_normal((10, DIMENSION))
    queries = normalised((bank[draw.integers(count, size=10)] + noise).astype(np.float32))
    documents = [None, {"year": {"$lt": 3}}, {"year": {"$lt": 300}, "sold": True}, {"label": "a"}, {"year": {"$ne": 7}}]
    for document in documents:
        where = parse_filter(document, FIELDS)
        places = np.array([place for place, row in enumerate(plain) if matches(where, row)])
        found = store.search(queries, 10, where).rows
        assert found.num_rows == 10 * len(queries)
        true = [{f"image-{place}" for place in row} for row in places[nearest(queries, bank[places], 10).rows]]
        got = np.array(found["id"].to_pylist()).reshape(len(queries), 10)
        assert np.mean([len(a & set(b)) / 10 for a, b in zip(true, got, strict=True)]) >= 0.99
    assert store.delete(parse_filter({"label": "a"}, FIELDS)).rows == sum(row["label"] == "a" for row in plain)

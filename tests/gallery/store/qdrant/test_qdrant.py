"""What is Qdrant's own: how a write of many points is whole or nothing, and its addresses."""

import gc
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import cast

import pytest
from qdrant_client import models

from tests.gallery.samples import FIELDS, SPEC, some_rows, unit_vectors
from tests.paths import ROOT
from vssl.errors import UsageError
from vssl_gallery.errors import StoreUnavailable, UnknownGallery
from vssl_gallery.store.contract import Place
from vssl_gallery.store.filters import parse_filter
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.qdrant import upkeep, versions
from vssl_gallery.store.qdrant.conditions import compiled
from vssl_gallery.store.qdrant.connection import Connection
from vssl_gallery.store.qdrant.store import QdrantStore
from vssl_gallery.store.qdrant.versions import Record


@pytest.fixture
def place(qdrant_address: str) -> Iterator[Place]:
    opened = open_place(qdrant_address)
    yield opened
    opened.close()


@pytest.fixture
def store(place: Place, name: str) -> Iterator[QdrantStore]:
    yield cast(QdrantStore, place.create(name, SPEC))
    place.drop(name)


def points(store: QdrantStore, connection: Connection) -> int:
    with connection.asking() as client:
        return client.count(store.collection).count


def test_who_is_too_slow_has_written_nothing(store: QdrantStore, qdrant_address: str) -> None:
    store.upsert(some_rows(10, year=[1] * 10))
    connection = Connection(qdrant_address)
    (point,) = [p.id for p in _all_records(connection) if (p.payload or {}).get("name") == store.name]
    slow = QdrantStore(connection, store.name, Record(connection, str(point), store.name), store.collection, SPEC)
    slow._record._turn = Lock()  # as in another process
    late = slow._record.writing()
    state, _ = late.__enter__()
    slow._end(state, slow._visible(None, state))  # the first step of deleting all rows
    written = store.upsert(some_rows(5, first=5, year=[2] * 5))  # it finds the record taken, and takes it over
    with pytest.raises(StoreUnavailable, match="another came first"):
        late.__exit__(None, None, None)
    assert store.version() == written.version
    assert store.count() == 10
    years = [year for part in store.scan(columns=["year"]) for year in part["year"].to_pylist()]
    assert sorted(years) == [1] * 5 + [2] * 5
    assert store.delete(None).rows == 10
    assert store.count() == 0
    connection.close()


def _all_records(connection: Connection) -> list[models.Record]:
    with connection.asking() as client:
        return client.scroll(versions.RECORDS, limit=1000)[0]


def test_three_threads_put_the_same_rows(store: QdrantStore, place: Place) -> None:
    def put(year: int) -> None:
        own = place.open(store.name)
        for first in (0, 10, 20):
            own.upsert(some_rows(10, first=first, year=[year] * 10))

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(put, range(3)))
    names = [name for part in store.scan() for name in part["id"].to_pylist()]
    assert sorted(names) == sorted(f"image-{number}" for number in range(30))
    assert set(store.count_by("year").values()) <= {10, 20, 30}  # of each batch all rows, or none


def test_maintenance_deletes_what_does_not_count(
    store: QdrantStore, qdrant_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(qdrant_address)
    store.upsert(some_rows(10))
    store.upsert(some_rows(10))
    interrupted = store._record.writing()
    state, _ = interrupted.__enter__()
    store._end(state, store._visible(None, state))
    error = KeyboardInterrupt()
    assert not interrupted.__exit__(KeyboardInterrupt, error, None)
    store.maintain()
    assert points(store, connection) == 20  # somebody may still read the older state
    monkeypatch.setattr(upkeep, "KEPT", -10)
    store.maintain()
    assert points(store, connection) == store.count() == 10
    connection.close()


WRITER = """
import sys
from tests.gallery.samples import SPEC, some_rows
from vssl_gallery.store.opening import open_place

store = open_place(sys.argv[1]).open("killed")
number = 0
while True:
    store.upsert(some_rows(20, first=20 * number))
    number += 1
    print(number, flush=True)
"""


@pytest.mark.slow  # a kill; the other stores are killed in test_writers
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client's, of its lock's file
def test_killed_in_the_middle_of_writing(qdrant_address: str) -> None:
    address = f"{qdrant_address}-killed"
    place = open_place(address)
    place.create("killed", SPEC)
    place.close()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, address], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(3)]
        with pytest.raises(StoreUnavailable, match="another process"):
            open_place(address)
        writer.kill()
        lines += writer.stdout.readlines()
    gc.collect()
    place = open_place(address)
    store = place.open("killed")
    count = store.count()
    assert count % 20 == 0
    assert count >= 20 * len(lines)
    assert store.upsert(some_rows(20)).rows == 20  # at once: who has left the record taken is dead
    assert store.count() == count
    place.close()
    shutil.rmtree(address.removeprefix("qdrant://"))


def test_filters_are_what_qdrants_interface_takes() -> None:
    """As a server would read them: the local mode takes our objects as they are."""
    documents = [
        {"label": "a", "year": {"$gte": 2**60}, "price": {"$in": [0.5]}, "sold": True},
        {"$or": [{"seen": {"$lt": "2026-01-01"}}, {"$not": {"name": {"$in": ["b", "c"]}}}]},
        {"year": {"$in": [2**62, 1]}, "uncertainty": {"$gt": 0.1}, "label": {"$exists": False}},
    ]
    for document in documents:
        where = parse_filter(document, FIELDS)
        assert where is not None
        written = compiled(where).model_dump_json(exclude_none=True)
        assert models.Filter.model_validate_json(written).model_dump_json(exclude_none=True) == written


@pytest.mark.parametrize("address", ["qdrant://", "qdrant:///", "qdrant://?tls=1", "qdrant://h:port", "qdrant://[::1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="qdrant://HOST:PORT"):
        open_place(address)


def test_a_server_that_is_away() -> None:
    with pytest.raises(StoreUnavailable, match="no answer") as caught:
        open_place("qdrant://:hidden@127.0.0.1:1")
    assert "hidden" not in str(caught.value)


def test_a_gallery_that_somebody_drops(place: Place, name: str) -> None:
    store = place.create(name, SPEC)
    place.drop(name)
    with pytest.raises(UnknownGallery, match="somebody dropped it"):
        store.upsert(some_rows(1))
    with pytest.raises(UnknownGallery, match="somebody dropped it"):
        store.search(unit_vectors(1), 1)

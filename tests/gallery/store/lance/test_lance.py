"""What only a folder of galleries has: what else lies in it, what is half there, its index, its disk."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from tests.gallery.samples import FIELDS, SPEC, some_rows, unit_vectors
from tests.paths import ROOT
from vssl.search.nearest import nearest
from vssl_gallery.errors import NotAGallery, StoreUnavailable, UnknownGallery
from vssl_gallery.store.contract import Found, Spec
from vssl_gallery.store.filters import parse_filter
from vssl_gallery.store.lance.place import LancePlace
from vssl_gallery.store.lance.store import LanceStore
from vssl_gallery.store.rows import vectors


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanceStore]:
    """A gallery with an index of 900 rows, and 100 rows that came later."""
    place = LancePlace(str(tmp_path_factory.mktemp("indexed")), index_rows=500)
    store = place.create("shoes", SPEC)
    store.upsert(some_rows(900, year=list(range(900))))
    store.maintain()
    store.upsert(some_rows(100, first=900, year=list(range(900, 1000))))
    yield store
    place.close()


def test_the_index_is_measured(indexed: LanceStore) -> None:
    info = indexed.info()
    assert (info.rows, info.indexed_rows) == (1000, 900)
    assert info.recall is not None
    assert info.recall >= 0.99


def test_other_galleries_are_written_and_read_while_one_is_indexed(tmp_path: Path) -> None:
    place = LancePlace(str(tmp_path), index_rows=500)
    large, small = place.create("large", SPEC), place.create("small", SPEC)
    large.upsert(some_rows(20_000))
    small.upsert(some_rows(10))
    indexing = threading.Thread(target=large.maintain)
    begin = time.monotonic()
    indexing.start()
    waited = []
    while indexing.is_alive():
        before = time.monotonic()
        small.upsert(some_rows(10))
        small.search(unit_vectors(1), 3)
        waited.append(time.monotonic() - before)
    took = time.monotonic() - begin
    indexing.join()
    assert large.info().indexed_rows == 20_000
    assert max(waited) < took / 2, "somebody waited for the index of another gallery"
    place.close()


def pairs(found: Found) -> set[tuple[int, str]]:
    return set(zip(found.rows["query"].to_pylist(), found.rows["id"].to_pylist(), strict=True))


@pytest.mark.parametrize("below", [1000, 500, 60, 12, 3])
def test_the_index_finds_enough_below_a_filter(indexed: LanceStore, below: int) -> None:
    queries = unit_vectors(40, seed=5)
    where = None if below == 1000 else parse_filter({"year": {"$lt": below}}, FIELDS)
    found = indexed.search(queries, 10, where)
    true = indexed.search(queries, 10, where, exact=True)
    assert (found.exact, true.exact) == (False, True)
    pairs = [
        set(zip(*rows.select(["query", "id"]).to_pydict().values(), strict=True)) for rows in (found.rows, true.rows)
    ]
    assert len(pairs[0]) == len(pairs[1]) == 40 * min(10, below)
    assert len(pairs[0] & pairs[1]) >= 0.99 * len(pairs[1])
    rows = indexed.search(queries, 10, where, ["embedding"]).rows
    similarity = (queries[rows["query"].to_numpy()] * vectors(rows["embedding"])).sum(axis=1)
    assert rows["similarity"].to_numpy() == pytest.approx(similarity, abs=1e-5)  # not those of the rounded vectors


def test_the_index_answers_with_more_neighbours_than_candidates(indexed: LanceStore) -> None:
    assert indexed.search(unit_vectors(1), 1000).rows.num_rows == 1000


def test_maintenance_brings_the_index_up_to_date(tmp_path: Path) -> None:
    store = LancePlace(str(tmp_path), index_rows=300).create("shoes", SPEC)
    store.upsert(some_rows(300))
    assert any("indexed 300 rows" in action for action in store.maintain().actions)
    store.upsert(some_rows(300, first=150))
    assert store.maintain().info.indexed_rows == 450
    rows = {row["id"]: row["embedding"] for batch in store.scan(None, ["embedding"]) for row in batch.to_pylist()}
    queries = unit_vectors(20, seed=3)
    truth = nearest(queries, np.array(list(rows.values()), np.float32), 1).rows[:, 0]
    found = store.search(queries, 1).rows["id"].to_pylist()
    assert np.mean([name == list(rows)[row] for name, row in zip(found, truth, strict=True)]) >= 0.95


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(NotAGallery, match=r"holds 'holiday.jpg' and no galleries"):
        LancePlace(str(tmp_path))
    with pytest.raises(NotAGallery, match="is a file"):
        LancePlace(str(tmp_path / "holiday.jpg"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]


def test_looking_makes_nothing(tmp_path: Path) -> None:
    place = LancePlace(str(tmp_path / "new" / "place"))
    place.check()
    assert (place.galleries(), place.aliases()) == ([], {})
    with pytest.raises(UnknownGallery, match="there is none"):
        place.open("shoes")
    with pytest.raises(UnknownGallery):
        place.drop("shoes")
    place.set_alias("boots", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a b", "100%20é#?&x", "s3:", "..x", "'q'\"`"])
def test_folders_with_odd_names(tmp_path: Path, folder: str) -> None:
    LancePlace(str(tmp_path / folder)).create("shoes", SPEC).upsert(some_rows(2))
    assert [entry.name for entry in tmp_path.iterdir()] == [folder]
    assert LancePlace(str(tmp_path / folder)).open("shoes").count() == 2


def test_a_gallery_that_a_newer_version_wrote(tmp_path: Path) -> None:
    LancePlace(str(tmp_path)).create("shoes", SPEC)
    text = json.dumps({"format": 99, "encoder_id": "e", "dimension": 4})
    lancedb.connect(tmp_path).create_table("newer", schema=pa.schema([("id", pa.string())], {"vssl.gallery": text}))
    lancedb.connect(tmp_path).create_table("other", schema=pa.schema([("id", pa.string())]))
    place = LancePlace(str(tmp_path))
    with pytest.raises(NotAGallery, match=r"newer: a newer vssl wrote it \(format 99"):
        place.open("newer")
    with pytest.raises(NotAGallery, match="other: is not a gallery"):
        place.open("other")
    assert place.open("shoes").spec == SPEC


def test_what_a_killed_creation_leaves_can_be_dropped(tmp_path: Path) -> None:
    place = LancePlace(str(tmp_path))
    place.create("shoes", SPEC)
    (tmp_path / "boots.lance" / "data").mkdir(parents=True)
    with pytest.raises((UnknownGallery, NotAGallery)):
        place.open("boots")
    if "boots" in place.galleries():
        place.drop("boots")
    assert place.create("boots", SPEC).count() == 0


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    place = LancePlace(str(tmp_path))
    place.create("shoes", SPEC).upsert(some_rows(20))
    for file in (tmp_path / "shoes.lance" / "data").iterdir():
        file.write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="gallery shoes: "):
        place.open("shoes").search(unit_vectors(1), 1)


FULL = """
import resource, sys
from tests.gallery.samples import some_rows
from vssl_gallery.errors import StoreFull
from vssl_gallery.store.lance.place import LancePlace

store = LancePlace(sys.argv[1]).open("shoes")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for act in (lambda: store.upsert(some_rows(1000, first=1000)), store.maintain):
    try:
        act()
    except StoreFull as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(store.count(), store.upsert(some_rows(1, first=5000)).rows)
"""


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    store = LancePlace(str(tmp_path)).create("shoes", SPEC)
    for first in (0, 500):
        store.upsert(some_rows(500, first=first))
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, cwd=ROOT, check=False)
    said = done.stdout.splitlines()
    assert said[:2] == ["gallery shoes: the disk is full; free some space and do it again"] * 2, done.stderr
    assert said[2:] == ["1000 1"]
    assert store.count() == 1001
    assert store.maintain().info.rows == 1001
    assert len(vectors(pa.Table.from_batches(list(store.scan(None, ["embedding"])))["embedding"])) == 1001


def test_another_dimension_and_no_fields(tmp_path: Path) -> None:
    store = LancePlace(str(tmp_path)).create("small", Spec("e", 3))
    store.upsert(some_rows(5, dimension=3))
    assert store.search(unit_vectors(1, 3), 2).rows.num_rows == 2

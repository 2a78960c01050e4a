"""Small writes are put together, and each caller hears of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gallery.samples import some_rows
from vssl_gallery.errors import InvalidRows, StoreFull
from vssl_gallery.store.collecting import CollectedWrites
from vssl_gallery.store.contract import Store, Written

Create = Callable[..., Store]


def test_many_single_rows_are_one_commit(create: Create) -> None:
    store = create()
    writes = CollectedWrites(store, seconds=60)
    with ThreadPoolExecutor(32) as threads:
        done = [threads.submit(writes.upsert, some_rows(1, first=number)) for number in range(32)]
        while len(writes._waiting) < 32:
            pass
        assert store.count() == 0
        writes.close()
    assert store.count() == 32
    assert {each.result() for each in done} == {Written(store.version(), 1)}


def test_enough_rows_do_not_wait(create: Create) -> None:
    store = create()
    with CollectedWrites(store, most_rows=8, seconds=60) as writes:
        assert writes.upsert(some_rows(8)).rows == store.count() == 8


def test_one_row_does_not_wait_for_others_for_ever(create: Create) -> None:
    store = create()
    with CollectedWrites(store, most_rows=500, seconds=0.01) as writes:
        written = writes.upsert(some_rows(1))
        assert (written.rows, store.count()) == (1, 1)


def test_of_one_id_the_last_write_counts(create: Create) -> None:
    store = create()
    writes = CollectedWrites(store, seconds=60)
    threads = []
    for year in range(5):
        threads.append(threading.Thread(target=writes.upsert, args=(some_rows(1, year=[year]),)))
        threads[-1].start()
        while len(writes._waiting) <= year:  # in this order
            pass
    writes.close()
    for thread in threads:
        thread.join()
    assert next(iter(store.scan(None, ["year"]))).to_pylist() == [{"id": "image-0", "year": 4}]


def test_rows_that_are_refused_spoil_nobody_elses(create: Create) -> None:
    store = create()
    with CollectedWrites(store, seconds=0.01) as writes:
        with pytest.raises(InvalidRows):
            writes.upsert(some_rows(1, id=[""]))
        assert writes.upsert(some_rows(1)).rows == 1


def test_every_caller_hears_that_the_store_failed(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    store = create()

    def full(_: object) -> Written:
        raise StoreFull("the disk is full")

    with CollectedWrites(store, most_rows=3, seconds=60) as writes, ThreadPoolExecutor(3) as threads:
        monkeypatch.setattr(store, "upsert", full)
        failed = [threads.submit(writes.upsert, some_rows(1, first=number)) for number in range(3)]
        assert {type(each.exception()) for each in failed} == {StoreFull}
        monkeypatch.undo()
        later = [threads.submit(writes.upsert, some_rows(1, first=number)) for number in range(3)]
        assert {each.result().rows for each in later} == {1}
    assert store.count() == 3
    with pytest.raises(RuntimeError, match="closed"):
        writes.upsert(some_rows(1))

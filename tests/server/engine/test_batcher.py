"""The batcher with real threads and without HTTP: a plain function stands where the engine goes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl_server.engine.batcher import Batcher, Infer
from vssl_server.engine.jobs import BatchResult, EngineStoppedError, Pulling
from vssl_server.wire.capacity import OverloadedError

POISON = 255


def image(value: int) -> Pixels:
    """A 1×1 image whose value can be read off its embedding."""
    return np.full((1, 1, 3), value, np.uint8)


def echo(images: Pixels) -> Embeddings:
    """Row i of every output says which image it was."""
    value = images[:, 0, 0, 0].astype(np.float32)
    return Embeddings(value[:, None], value[:, None] * np.float32(0.5), -value)


def values(answer: BatchResult) -> list[int]:
    np.testing.assert_array_equal(answer.embeddings.uncertainty, -answer.embeddings.embedding[:, 0])
    np.testing.assert_array_equal(answer.embeddings.variance, answer.embeddings.embedding / 2)
    return [int(value) for value in answer.embeddings.embedding[:, 0]]


class Gate:
    """An engine that records its batches and waits inside each call until it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self, images: Pixels) -> Embeddings:
        self.batches.append([int(value) for value in images[:, 0, 0, 0]])
        self.entered.release()
        self.let.acquire()
        return echo(images)


@contextmanager
def running(
    infer: Infer,
    max_batch: int = 4,
    warm_up: Callable[[], object] = lambda: None,
    observe: Callable[[int, float], None] = lambda images, seconds: None,
    probe: Pixels | None = None,
    pulling: Pulling | None = None,
) -> Iterator[Batcher]:
    shared = None if pulling is None else lambda: pulling
    batcher = Batcher(infer, max_batch, 1000, warm_up=warm_up, pulling=shared, observe=observe, probe=probe)
    batcher.start()
    try:
        yield batcher
    finally:
        batcher.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 254), min_size=1, max_size=9), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_every_request_gets_its_own_rows_in_its_own_order(
    requests: list[list[int]], max_batch: int, threads: int, pulled_by: int
) -> None:
    sizes: list[int] = []
    futures: dict[int, Future[BatchResult]] = {}

    def submit(batcher: Batcher, first: int) -> None:
        for number in range(first, len(requests), threads):
            futures[number] = batcher.submit([image(value) for value in requests[number]])

    pulling, observe = Pulling(pulled_by, max_batch), lambda images, seconds: sizes.append(images)
    with running(echo, max_batch, observe=observe, pulling=pulling) as batcher:
        workers = [threading.Thread(target=submit, args=(batcher, first)) for first in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        answers = [values(futures[number].result(timeout=60)) for number in range(len(requests))]
    assert answers == requests
    assert max(sizes) <= max_batch
    assert sum(sizes) == sum(map(len, requests))


def test_what_waits_while_the_engine_is_busy_becomes_one_batch() -> None:
    gate = Gate()
    with running(gate, max_batch=4) as batcher:
        first = batcher.submit([image(0)])
        gate.entered.acquire()
        later = [batcher.submit([image(value)]) for value in (1, 2)] + [batcher.submit([image(3), image(4), image(5)])]
        gate.let.release(3)
        assert values(first.result(60)) == [0]
        assert [values(future.result(60)) for future in later] == [[1], [2], [3, 4, 5]]
    assert gate.batches == [[0], [1, 2, 3, 4], [5]]


def test_work_behind_waits_for_all_other_work_and_holds_half_of_the_places_at_most() -> None:
    gate = Gate()
    with running(gate, max_batch=2) as batcher:
        first = batcher.submit([image(0)])
        gate.entered.acquire()
        behind = batcher.submit([image(value) for value in (7, 8, 9)], behind=True)
        gone = batcher.submit([image(6)], behind=True)
        later = [batcher.submit([image(value)]) for value in (1, 2, 3)]
        assert gone.cancel()
        gate.let.release(9)
        assert [values(future.result(60)) for future in (first, *later)] == [[0], [1], [2], [3]]
        assert values(behind.result(60)) == [7, 8, 9]
        with batcher.admit(500, behind=True), pytest.raises(OverloadedError), batcher.admit(1, behind=True):
            pass
        with batcher.admit(500, behind=True), batcher.admit(500):
            assert batcher.in_flight == 1000
    assert gate.batches == [[0], [1, 2], [3, 7], [8, 9]]


def test_a_request_larger_than_a_batch_reports_the_time_of_all_its_batches() -> None:
    seconds: list[float] = []
    with running(echo, max_batch=2, observe=lambda images, spent: seconds.append(spent)) as batcher:
        answer = batcher.submit([image(value) for value in range(5)]).result(60)
    assert values(answer) == [0, 1, 2, 3, 4]
    assert len(seconds) == 3
    assert answer.inference_seconds == pytest.approx(sum(seconds))
    assert answer.queue_seconds >= 0


def test_an_abandoned_request_is_never_computed() -> None:
    gate = Gate()
    with running(gate, max_batch=2) as batcher:
        first = batcher.submit([image(0)])
        gate.entered.acquire()
        abandoned = batcher.submit([image(1), image(2), image(3)])
        last = batcher.submit([image(4)])
        assert abandoned.cancel()
        gate.let.release(2)
        assert values(first.result(60)) == [0]
        assert values(last.result(60)) == [4]
    assert gate.batches == [[0], [4]]


def test_a_request_abandoned_half_way_loses_only_its_remaining_batches() -> None:
    gate = Gate()
    with running(gate, max_batch=2) as batcher:
        abandoned = batcher.submit([image(value) for value in range(6)])
        gate.entered.acquire()
        assert abandoned.cancel()
        last = batcher.submit([image(9)])
        gate.let.release(2)
        assert values(last.result(60)) == [9]
    assert gate.batches == [[0, 1], [9]]


def test_places_are_counted_in_images_and_given_back() -> None:
    batcher = Batcher(echo, max_batch=4, capacity=5)
    with ExitStack() as held:
        held.enter_context(batcher.admit(3))
        held.enter_context(batcher.admit(2))
        assert batcher.in_flight == 5
        with pytest.raises(OverloadedError, match="5 of 5 places"), batcher.admit(1):
            pass
        assert batcher.in_flight == 5
    assert batcher.in_flight == 0
    with pytest.raises(RuntimeError, match="inside"), batcher.admit(5):
        raise RuntimeError("inside")
    assert batcher.in_flight == 0


def test_close_answers_what_waits_and_refuses_more() -> None:
    gate = Gate()
    with running(gate) as batcher:
        futures = [batcher.submit([image(0)])]
        gate.entered.acquire()
        futures += [batcher.submit([image(value)]) for value in (1, 2)]
        gate.let.release(2)
        batcher.close()
        assert [values(future.result(0)) for future in futures] == [[0], [1], [2]]
        assert not batcher.ready
        with pytest.raises(EngineStoppedError):
            batcher.submit([image(3)])


def test_an_empty_request_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        Batcher(echo, max_batch=1, capacity=1).submit([])

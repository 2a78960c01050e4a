"""The batcher with real threads and without HTTP: a plain function stands where the engine goes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl_server.engine import health
from vssl_server.engine.batcher import Batcher, Infer
from vssl_server.engine.health import FAILED_BATCHES, Health
from vssl_server.engine.jobs import BatchResult, EngineStoppedError, InferenceError, Job, Pulling
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


def test_threads_share_what_waits_and_none_waits_for_anothers_batch() -> None:
    gate = Gate()
    with running(gate, max_batch=8, pulling=Pulling(threads=2, images=3)) as batcher:
        big = batcher.submit([image(value) for value in range(9)])
        assert gate.entered.acquire(timeout=60)
        assert gate.entered.acquire(timeout=60)
        assert sorted(gate.batches) == [[0, 1, 2], [3, 4, 5]]
        small = batcher.submit([image(9)])
        gate.let.release()  # whichever it is goes on beside the other
        assert gate.entered.acquire(timeout=60)
        assert gate.batches[2] in ([6, 7], [6, 7, 9])
        gate.let.release(9)
        assert values(big.result(60)) == list(range(9))
        assert values(small.result(60)) == [9]
    assert all(len(batch) <= 3 for batch in gate.batches)


def test_two_batches_may_be_under_way_and_each_is_full() -> None:
    gate = Gate()
    with running(gate, max_batch=4, pulling=Pulling(threads=2, images=4, shared=False)) as batcher:
        big = batcher.submit([image(value) for value in range(9)])
        assert gate.entered.acquire(timeout=60)
        assert gate.entered.acquire(timeout=60)
        assert sorted(gate.batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
        gate.let.release(3)
        assert values(big.result(60)) == list(range(9))


def test_a_hung_call_is_seen_beside_others_that_return() -> None:
    gate = Gate()

    def infer(images: Pixels) -> Embeddings:
        return gate(images) if images[0, 0, 0, 0] == 1 else echo(images)

    batcher = Batcher(infer, 4, 1000, pulling=lambda: Pulling(2, 1), stall_seconds=0.05)
    batcher.start()
    hung = batcher.submit([image(1)])
    assert gate.entered.acquire(timeout=60)
    while not batcher.health.hangs:
        assert values(batcher.submit([image(2)]).result(60)) == [2]
    assert not batcher.ready
    assert batcher.health.unanswered > 0.05
    gate.let.release()
    assert values(hung.result(60)) == [1]
    batcher.close()
    assert not batcher.health.hangs


def test_health_counts_a_failed_call_in_a_row_of_all_threads() -> None:
    judged = Health(60)

    def failing() -> None:
        with pytest.raises(RuntimeError), judged.call():
            raise RuntimeError

    with judged.call():
        workers = [threading.Thread(target=failing) for _ in range(FAILED_BATCHES)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert judged.suspect
    assert not judged.suspect


def test_parts_that_were_computed_side_by_side_count_their_time_once() -> None:
    job = Job([image(value) for value in range(3)], 0.0, Future())
    first, last = job.take(2), job.take(2)
    job.add(last, echo(np.stack(last.images)), 10.0, 13.0)
    job.add(first, echo(np.stack(first.images)), 9.0, 14.0)
    answer = job.future.result(0)
    assert values(answer) == [0, 1, 2]
    assert answer.inference_seconds == 4.0


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


def poisonous(images: Pixels) -> Embeddings:
    if (images == POISON).any():
        raise ValueError("poison")
    return echo(images)


def test_only_the_poisonous_request_of_a_batch_fails() -> None:
    gate = Gate()

    def infer(images: Pixels) -> Embeddings:
        return gate(images) if not gate.batches else poisonous(images)

    with running(infer, max_batch=8) as batcher:
        batcher.submit([image(0)])
        gate.entered.acquire()
        good = batcher.submit([image(1), image(2)])
        bad = batcher.submit([image(3), image(POISON)])
        also_good = batcher.submit([image(4)])
        gate.let.release()
        assert values(good.result(60)) == [1, 2]
        assert values(also_good.result(60)) == [4]
        with pytest.raises(InferenceError, match="poison"):
            bad.result(60)
        assert batcher.ready
        assert values(batcher.submit([image(5)]).result(60)) == [5]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0, 1, 2, POISON]), min_size=1, max_size=6), min_size=1, max_size=10),
    st.integers(1, 5),
)
def test_poison_costs_exactly_the_requests_that_hold_it(requests: list[list[int]], max_batch: int) -> None:
    with running(poisonous, max_batch) as batcher:
        futures = [batcher.submit([image(value) for value in request]) for request in requests]
        for request, future in zip(requests, futures, strict=True):
            if POISON in request:
                assert isinstance(future.exception(60), InferenceError)
            else:
                assert values(future.result(60)) == request


def one_row_short(images: Pixels) -> Embeddings:
    return echo(images)[slice(0, -1)]


def not_finite(images: Pixels) -> Embeddings:
    answer = echo(images)
    return replace(answer, variance=answer.variance * np.nan)


@pytest.mark.parametrize(
    ("broken", "why"),
    [(one_row_short, "rows for 2 images"), (not_finite, "finite")],
)
def test_an_answer_that_cannot_be_right_is_an_error(broken: Infer, why: str) -> None:
    with running(broken) as batcher, pytest.raises(InferenceError, match=why):
        batcher.submit([image(1), image(2)]).result(60)


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


@pytest.mark.parametrize("threads", [1, 3])
def test_a_dead_engine_fails_all_that_wait_and_turns_readiness_red(threads: int) -> None:
    gate = Gate()

    def dies(images: Pixels) -> Embeddings:
        gate(images)
        raise SystemExit("the driver is gone")

    with running(dies, max_batch=2, pulling=Pulling(threads, 2)) as batcher:
        batcher.warm.result(60)
        assert batcher.ready
        running_now = batcher.submit([image(0), image(1), image(2)])
        gate.entered.acquire()
        waiting = batcher.submit([image(3)])
        gate.let.release()
        for future in (running_now, waiting):
            with pytest.raises(EngineStoppedError):
                future.result(60)
        assert not batcher.ready
        gate.let.release(9)
        with pytest.raises(EngineStoppedError):
            batcher.submit([image(4)])


def test_readiness_waits_for_the_warm_up_and_a_failed_one_says_why() -> None:
    let = threading.Event()
    with running(echo, warm_up=let.wait) as batcher:
        assert not batcher.ready
        let.set()
        batcher.warm.result(60)
        assert batcher.ready

    def fails() -> None:
        raise ValueError("no memory on the device")

    with running(echo, warm_up=fails) as batcher:
        with pytest.raises(EngineStoppedError, match="no memory"):
            batcher.warm.result(60)
        assert not batcher.ready
        with pytest.raises(EngineStoppedError):
            batcher.submit([image(0)]).result(60)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_engine_that_fails_on_a_blank_image_answers_nothing_until_it_works_again(
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.01)
    sick, calls, answered = threading.Event(), list[int](), threading.Event()

    def infer(images: Pixels) -> Embeddings:
        calls.append(int(images[0, 0, 0, 0]))
        if sick.is_set():
            raise RuntimeError("an illegal memory access was encountered")
        answered.set()
        return echo(images)

    with running(infer, probe=image(77)[None], pulling=Pulling(threads, 4)) as batcher:
        sick.set()
        for _ in range(FAILED_BATCHES):
            with pytest.raises(InferenceError):
                batcher.submit([image(1)]).result(60)
        while not batcher.health.failed:
            calls.index(1)
        assert not batcher.ready
        assert batcher.health.unanswered > 0
        with pytest.raises(EngineStoppedError, match="fails"):
            batcher.submit([image(1)])
        sick.clear()
        assert answered.wait(60)
        while batcher.health.failed:
            calls.index(77)
        assert batcher.ready
        assert batcher.health.unanswered == 0
        assert values(batcher.submit([image(2)]).result(60)) == [2]
    assert calls[: FAILED_BATCHES + 1] == [1] * FAILED_BATCHES + [77]


def test_poison_again_and_again_is_no_fault_of_the_engine() -> None:
    with running(poisonous, probe=image(0)[None]) as batcher:
        for _ in range(3 * FAILED_BATCHES):
            with pytest.raises(InferenceError):
                batcher.submit([image(POISON)]).result(60)
            assert not batcher.health.failed
        assert values(batcher.submit([image(1)]).result(60)) == [1]


def test_an_empty_request_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        Batcher(echo, max_batch=1, capacity=1).submit([])

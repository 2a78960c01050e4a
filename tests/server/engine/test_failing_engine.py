"""An engine that fails: on one request, on all, for a while, or for good."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.engine.test_batcher import POISON, Gate, echo, image, running, values
from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl_server.engine import health
from vssl_server.engine.batcher import Batcher, Infer
from vssl_server.engine.health import FAILED_BATCHES
from vssl_server.engine.jobs import EngineStoppedError, InferenceError, Pulling


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


def test_threads_that_cant_be_had_are_a_warm_up_that_failed() -> None:
    def none_to_be_had() -> Pulling:
        raise RuntimeError("can't start new thread")

    batcher = Batcher(echo, 4, 1000, pulling=none_to_be_had)
    batcher.start()
    with pytest.raises(EngineStoppedError, match="can't start new thread"):
        batcher.warm.result(60)
    assert not batcher.ready
    batcher.close()

"""A state machine over the batcher: any order of submitting, cancelling, poison, and letting the engine run."""

import threading
from concurrent.futures import Future

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.server.engine.test_batcher import POISON, echo, image, values
from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl_server.engine.batcher import Batcher
from vssl_server.engine.jobs import BatchResult, InferenceError, Pulling

MAX_BATCH = 4


class Steps:
    """An engine that does one call whenever the machine says so, and notes what it computed."""

    def __init__(self) -> None:
        self.let, self.batches = threading.Semaphore(0), list[list[int]]()
        self.open = False

    def __call__(self, images: Pixels) -> Embeddings:
        if not self.open:
            self.let.acquire()
        self.batches.append([int(value) for value in images[:, 0, 0, 0]])
        if (images == POISON).any():
            raise ValueError("poison")
        return echo(images)


class BatcherMachine(RuleBasedStateMachine):
    """Numbers 0 … 254 stand for images, each used once; 255 is poison."""

    @initialize(
        max_wait=st.sampled_from([0.0, 0.001, 3600.0]),
        pulling=st.builds(Pulling, threads=st.integers(1, 3), images=st.integers(1, MAX_BATCH)),
    )
    def start(self, max_wait: float, pulling: Pulling) -> None:
        self.engine = Steps()
        self.batcher = Batcher(self.engine, MAX_BATCH, 1000, pulling=lambda: pulling, max_wait=max_wait)
        self.batcher.start()
        self.requests: list[tuple[list[int], Future[BatchResult]]] = []
        self.next = 0

    @precondition(lambda self: self.next < 200)
    @rule(size=st.integers(1, 9), poisoned=st.booleans(), often=st.booleans())
    def submit(self, size: int, poisoned: bool, often: bool) -> None:
        numbers = list(range(self.next, self.next + size))
        self.next += size
        if poisoned and often:
            numbers[size // 2] = POISON
        self.requests.append((numbers, self.batcher.submit([image(number) for number in numbers])))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.requests))[1].cancel()

    @rule()
    def let_one_batch_through(self) -> None:
        self.engine.let.release()

    @invariant()
    def nothing_wrong_was_answered(self) -> None:
        for numbers, future in getattr(self, "requests", []):
            if future.done():
                self.check(numbers, future)

    def check(self, numbers: list[int], future: "Future[BatchResult]") -> None:
        if future.cancelled():
            return
        if POISON in numbers:
            assert isinstance(future.exception(), InferenceError)
        else:
            assert values(future.result()) == numbers

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.engine.open = True
        self.engine.let.release(1000)
        self.batcher.close(60)
        for numbers, future in self.requests:
            assert future.done()
            self.check(numbers, future)
        assert all(len(batch) <= MAX_BATCH for batch in self.engine.batches)
        # Nothing good is computed twice, but for the retries of a batch that failed.
        good = [batch for batch in self.engine.batches if POISON not in batch]
        computed = [number for batch in good for number in batch]
        assert len(computed) == len(set(computed))


TestBatcher = BatcherMachine.TestCase
TestBatcher.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_a_free_engine_waits_for_a_full_batch_where_it_was_asked_to() -> None:
    engine = Steps()
    engine.open = True
    batcher = Batcher(engine, MAX_BATCH, capacity=1000, max_wait=3600)
    batcher.start()
    cancelled = batcher.submit([image(0)])
    first = batcher.submit([image(1)])
    assert cancelled.cancel()
    rest = [batcher.submit([image(number) for number in numbers]) for numbers in ([2, 3], [4, 5])]
    assert values(first.result(60)) == [1]
    assert values(rest[0].result(60)) == [2, 3]
    assert not rest[1].done()  # one image of it waits for the next batch
    batcher.close(60)
    assert values(rest[1].result(60)) == [4, 5]
    assert engine.batches == [[1, 2, 3, 4], [5]]


def test_a_lone_request_is_answered_when_the_time_is_over() -> None:
    engine = Steps()
    engine.open = True
    batcher = Batcher(engine, MAX_BATCH, capacity=1000, max_wait=0.01)
    batcher.start()
    assert values(batcher.submit([image(1)]).result(60)) == [1]
    batcher.submit([image(2)]).cancel()  # after which it goes on
    assert values(batcher.submit([image(3)]).result(60)) == [3]
    batcher.close(60)


def test_small_requests_do_not_wait_for_all_of_a_big_one() -> None:
    engine = Steps()
    batcher = Batcher(engine, MAX_BATCH, capacity=1000)
    batcher.start()
    big = batcher.submit([image(number) for number in range(100)])
    small = [batcher.submit([image(number)]) for number in range(100, 103)]
    engine.open = True
    engine.let.release(1000)
    assert [values(future.result(60)) for future in (big, *small)] == [list(range(100)), [100], [101], [102]]
    batcher.close(60)
    position = next(at for at, batch in enumerate(engine.batches) if 102 in batch)
    assert position <= 2
    np.testing.assert_array_equal(sorted(number for batch in engine.batches for number in batch), np.arange(103))

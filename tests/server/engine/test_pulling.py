"""Several threads that take images from the batcher's queue: none waits for another, and each answer is whole."""

import threading
import time
import weakref
from concurrent.futures import Future

import numpy as np
import pytest

from tests.server.engine.test_batcher import Gate, echo, image, running, values
from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl_server.engine.batcher import Batcher
from vssl_server.engine.health import FAILED_BATCHES, Health
from vssl_server.engine.jobs import Job, Pulling


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


def test_a_thread_that_waits_keeps_no_images() -> None:
    with running(echo, pulling=Pulling(2, 4)) as batcher:
        pixels = image(1)
        kept = weakref.ref(pixels)
        batcher.submit([pixels]).result(60)
        del pixels
        end = time.monotonic() + 60
        while kept() is not None and time.monotonic() < end:
            time.sleep(0.01)
        assert kept() is None

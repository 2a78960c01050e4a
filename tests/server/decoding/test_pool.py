"""The pool of decoding threads, without images: all run, in turns, and heavy ones hold up no light one."""

import logging
import threading
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vssl_server.decoding.pool import Line, Pool
from vssl_server.wire.capacity import OverloadedError


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40), st.integers(1, 3), st.integers(1, 3))
def test_every_task_runs_once_whoever_hands_it_over(tasks: list[tuple[int, bool]], threads: int, givers: int) -> None:
    ran: list[int] = []
    lines = [Line() for _ in range(4)]

    def give(pool: Pool, first: int) -> None:
        for number in range(first, len(tasks), givers):
            line, heavy = tasks[number]
            pool.submit(lines[line], partial(ran.append, number), heavy)

    with Pool(threads) as pool:
        workers = [threading.Thread(target=give, args=(pool, first)) for first in range(givers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert sorted(ran) == list(range(len(tasks)))
    assert pool.waiting == 0


def test_a_long_task_holds_up_nothing_while_a_thread_is_free() -> None:
    let, done = threading.Event(), threading.Event()
    with Pool(2) as pool:
        pool.submit(Line(), let.wait)
        pool.submit(Line(), done.set)
        assert done.wait(60)
        let.set()


def test_long_tasks_of_one_request_run_at_once() -> None:
    both, line = threading.Barrier(2), Line()
    with Pool(2) as pool:
        for _ in range(2):
            pool.submit(line, lambda: both.wait(60), heavy=True)  # passes only where two threads meet
    assert not both.broken


def test_requests_take_turns() -> None:
    order: list[str] = []
    let, first, large, small = threading.Event(), Line(), Line(), Line()
    with Pool(1) as pool:
        pool.submit(first, let.wait, heavy=True)
        for number in range(5):
            pool.submit(large, partial(order.append, f"large {number}"), heavy=True)
        for number in range(2):
            pool.submit(small, partial(order.append, f"small {number}"), heavy=True)
        let.set()
    assert order[:4] == ["large 0", "small 0", "large 1", "small 1"]
    assert len(order) == 7


@pytest.mark.parametrize("threads", [1, 3])
def test_a_light_task_ends_while_heavy_ones_hold_every_thread(threads: int) -> None:
    let, done = threading.Event(), threading.Event()
    with Pool(threads) as pool:
        for _ in range(2 * threads):
            pool.submit(Line(), let.wait, heavy=True)
        pool.submit(Line(), done.set)
        assert done.wait(60)
        assert pool.waiting == threads
        let.set()


@pytest.mark.parametrize("threads", [1, 3])
def test_one_request_never_holds_all_threads(threads: int) -> None:
    let, done, greedy = threading.Event(), threading.Event(), Line()
    with Pool(threads) as pool:
        for _ in range(2 * threads):
            pool.submit(greedy, let.wait)
        pool.submit(Line(), done.set)
        assert done.wait(60)
        let.set()


def test_a_thread_outlives_a_task_that_raises_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise SystemExit("a decoder's last word")

    ran = threading.Event()
    with caplog.at_level(logging.CRITICAL, "vssl.server"), Pool(1) as pool:
        for _ in range(4):
            pool.submit(Line(), fails)
        line = Line()
        pool.submit(line, ran.set)
        assert ran.wait(60)
        assert pool.alive
    assert not pool.alive
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("a decoder's last word",)
    ] * 4


def test_pixels_are_admitted_up_to_the_limit_and_given_back() -> None:
    pool = Pool(1, max_pending_pixels=100)
    pool.admit(60)
    with pytest.raises(OverloadedError, match="60 of 100 pixels are pending"):
        pool.admit(41)
    pool.admit(40)
    pool.release(60)
    pool.admit(60)
    assert pool.pending_pixels == 100

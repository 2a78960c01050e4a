"""The pool of decoding threads, without images."""

import threading
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from vssl_server.pool import Pool


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 3), st.integers(1, 3))
def test_every_task_runs_once_whoever_hands_it_over(short: list[bool], threads: int, givers: int) -> None:
    ran: list[int] = []

    def give(pool: Pool, first: int) -> None:
        for number in range(first, len(short), givers):
            pool.submit(partial(ran.append, number), short[number])

    with Pool(threads) as pool:
        workers = [threading.Thread(target=give, args=(pool, first)) for first in range(givers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert sorted(ran) == list(range(len(short)))


def test_a_long_task_holds_up_nothing_while_a_thread_is_free() -> None:
    let, done = threading.Event(), threading.Event()
    with Pool(2) as pool:
        for _ in range(20):  # short ones first, so that one thread is at work and the other asleep
            pool.submit(lambda: None, short=True)
        pool.submit(let.wait)
        pool.submit(done.set, short=True)
        assert done.wait(60)
        let.set()


def test_long_tasks_run_at_once() -> None:
    both = threading.Barrier(2)
    with Pool(2) as pool:
        for _ in range(2):
            pool.submit(lambda: both.wait(60))  # passes only where two threads meet
    assert not both.broken

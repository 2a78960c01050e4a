"""The pool of decoding threads, without images."""

import threading
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from vssl_server.pool import Pool


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(1, 3), st.integers(1, 3))
def test_every_task_runs_once_whoever_hands_it_over(tasks: int, threads: int, givers: int) -> None:
    ran: list[int] = []

    def give(pool: Pool, first: int) -> None:
        for number in range(first, tasks, givers):
            pool.submit(partial(ran.append, number))

    with Pool(threads) as pool:
        workers = [threading.Thread(target=give, args=(pool, first)) for first in range(givers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert sorted(ran) == list(range(tasks))


def test_a_long_task_holds_up_nothing_while_a_thread_is_free() -> None:
    let, done = threading.Event(), threading.Event()
    with Pool(2) as pool:
        pool.submit(let.wait)
        pool.submit(done.set)
        assert done.wait(60)
        let.set()


def test_long_tasks_run_at_once() -> None:
    both = threading.Barrier(2)
    with Pool(2) as pool:
        for _ in range(2):
            pool.submit(lambda: both.wait(60))  # passes only where two threads meet
    assert not both.broken

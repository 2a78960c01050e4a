"""Ordered work in threads."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl_client.embedding.pipeline import ordered


@given(st.lists(st.integers(), max_size=60), st.integers(1, 8))
def test_results_come_in_order_and_items_are_taken_as_needed(items: list[int], workers: int) -> None:
    taken = given_back = 0

    def counted() -> Iterator[int]:
        nonlocal taken
        for item in items:
            taken += 1
            assert taken - given_back <= 2 * workers
            yield item

    found = []
    with ordered(lambda item: item * item, counted(), workers) as results:
        for result in results:
            given_back += 1
            found.append(result)
    assert found == [item * item for item in items]


def test_a_slow_first_item_does_not_change_the_order() -> None:
    second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_done.wait(60)
        if item == 1:
            second_done.set()
        return item

    with ordered(work, range(20), 4) as results:
        assert list(results) == list(range(20))


def test_an_error_comes_in_its_place_and_nothing_begins_after_it() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 5:
            raise ValueError("five")
        return item

    found: list[int] = []
    with pytest.raises(ValueError, match="five"), ordered(work, range(10**9), 2) as results:
        found.extend(results)
    assert found == [0, 1, 2, 3, 4]
    assert max(begun) < 5 + 2 * 2 + 1


def test_leaving_does_not_wait_for_work_that_never_ends() -> None:
    forever = threading.Event()
    try:
        with ordered(lambda item: item == 0 or forever.wait(100), range(3), 3) as results:
            assert next(results) is True
    finally:
        forever.set()

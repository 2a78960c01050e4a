"""What is in the server at once: a request that finds no place is told when to come again, and nothing is lost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl_server.wire.capacity import Capacity, OverloadedError, Pending
from vssl_server.wire.errors import ApiError


def test_a_request_without_a_place_hears_how_long_others_stayed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    places = Capacity(8)
    with pytest.raises(OverloadedError) as unknown, places.admit(9):
        pass
    with places.admit(1):
        now[0] += 12.0
    with places.admit(8):
        for count, seconds in ((2, 3.0), (8, 12.0)):
            with pytest.raises(OverloadedError) as found, places.admit(count):
                pass
            assert found.value.seconds == pytest.approx(seconds)
    with pytest.raises(OverloadedError) as other, places.admit(1):
        raise OverloadedError("of who decodes", share=0.5)
    assert unknown.value.seconds == 0
    assert 0 < other.value.seconds < 12
    assert places.in_flight == 0


def test_who_finds_no_place_hears_how_long_others_stayed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pending = Pending(100)
    with pending.request() as held:
        held.reach(10)
        now[0] += 12.0
    with pending.request() as first, pending.request() as second:
        first.reach(100)
        with pytest.raises(ApiError) as found:
            second.reach(25)
    assert found.value.headers == {"Retry-After": "3"}


@given(st.lists(st.lists(st.integers(0, 60), max_size=5), max_size=8))
def test_nothing_is_lost_or_counted_twice(requests: list[list[int]]) -> None:
    pending = Pending(100)
    with pending.request() as first:
        for totals in requests:
            before = pending.bytes
            with pending.request() as held:
                for total in totals:
                    if before + total <= 100:
                        held.reach(total)
                    else:
                        with pytest.raises(ApiError, match="would be over 100 bytes"):
                            held.reach(total)
                assert pending.bytes == before + held.bytes <= 100
            if totals and first.bytes < totals[0]:
                first.reach(totals[0])
            assert pending.bytes == first.bytes
    assert pending.bytes == 0

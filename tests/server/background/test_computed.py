"""An answer is computed once for a version, however many ask and give up, and the memory for answers is bounded."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from vssl.errors import UsageError
from vssl_server.background.computed import KEY_BYTES, Computed
from vssl_server.wire.errors import ApiError


def counting(calls: list[str], answer: str) -> Callable[[], str]:
    def compute() -> str:
        calls.append(answer)
        return answer

    return compute


def in_a_loop(test: Callable[[Computed], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        computed = Computed(most_bytes=3 * KEY_BYTES + 60)
        asyncio.run(test(computed))  # type: ignore[arg-type]
        computed.close()

    return run


@in_a_loop
async def test_once_a_version(computed: Computed) -> None:
    calls: list[str] = []
    ask = [computed.get("q", 1, counting(calls, "one"), len) for _ in range(20)]
    assert set(await asyncio.gather(*ask)) == {"one"}
    assert await computed.get("q", 2, counting(calls, "two"), len) == "two"
    assert computed.latest("q") == (2, "two")
    assert computed.latest("p") is None
    assert calls == ["one", "two"]


@in_a_loop
async def test_who_gives_up_leaves_the_answer_to_the_next(computed: Computed) -> None:
    gate, calls = threading.Event(), list[str]()

    def slow() -> str:
        assert gate.wait(60)
        return counting(calls, "slow")()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(computed.get("q", 1, slow, len), 0.01)
    assert computed.latest("q") is None
    gate.set()
    assert await computed.get("q", 1, slow, len) == "slow"
    assert calls == ["slow"]


@in_a_loop
async def test_a_failure_is_tried_again(computed: Computed) -> None:
    def failing() -> str:
        raise UsageError("no")

    for _ in range(2):
        with pytest.raises(UsageError):
            await computed.get("q", 1, failing, len)
    assert await computed.get("q", 1, lambda: "now", len) == "now"


@in_a_loop
async def test_the_least_recently_asked_are_forgotten(computed: Computed) -> None:
    calls: list[str] = []
    for name in "abcabd":  # each of 20 bytes; c is the oldest when d comes
        await computed.get(name, 1, counting(calls, name * 20), len)
    assert calls == [name * 20 for name in "abcd"]
    assert computed.latest("c") is None
    assert computed.latest("a") == (1, "a" * 20)
    computed.put("huge", 7, "x" * 10_000, 10_000)  # kept, as somebody asks for it now
    assert computed.latest("huge") == (7, "x" * 10_000)
    assert computed.latest("a") is None


@in_a_loop
async def test_after_the_end_nothing_is_computed(computed: Computed) -> None:
    computed.close()
    with pytest.raises(ApiError, match="stopping"):
        await computed.get("q", 1, lambda: "never", len)

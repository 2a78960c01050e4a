"""Requests that come all at once begin over several turns of the loop, in order; health waits for none of them."""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from vssl_server.access.turns import REQUESTS, Turns, TurnsMiddleware


async def nothing() -> Message:
    return {"type": "http.disconnect"}


async def nowhere(message: Message) -> None:
    """Sends nothing."""


def test_a_turn_begins_so_many_requests_and_health_is_among_the_first() -> None:
    begun: list[str] = []
    turns: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])

    async def main() -> None:
        middleware = TurnsMiddleware(app, at_once={"/healthz"})
        paths = [f"/{number}" for number in range(5 * REQUESTS)]
        tasks = [
            asyncio.create_task(middleware({"type": "http", "path": path}, nothing, nowhere))
            for path in [*paths, "/healthz"]
        ]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)  # a turn
            turns.append(len(begun))
        assert [path for path in begun if path != "/healthz"] == paths

    asyncio.run(main())
    assert begun.index("/healthz") == REQUESTS  # with the first turn's
    new = [after - before for before, after in zip([0, *turns], turns, strict=False)]
    assert max(new) <= REQUESTS + 1


def test_one_that_has_gone_leaves_its_turn_to_the_next() -> None:
    async def main() -> None:
        turns = Turns()
        tasks = [asyncio.create_task(turns.begin()) for _ in range(3 * REQUESTS)]
        await asyncio.sleep(0)
        for task in tasks[REQUESTS : 2 * REQUESTS]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(one is None for one in done) == 2 * REQUESTS

    asyncio.run(main())


def test_a_request_alone_begins_in_the_turn_in_which_it_came() -> None:
    async def main() -> None:
        loop, turns = asyncio.get_running_loop(), Turns()
        for _ in range(3):
            passed: list[str] = []
            loop.call_soon(passed.append, "a turn")
            await turns.begin()
            assert passed == []
            await asyncio.sleep(0)
            assert passed == ["a turn"]

    asyncio.run(main())


def test_one_too_many_for_a_turn_waits_for_the_next() -> None:
    async def main() -> None:
        loop, turns, passed = asyncio.get_running_loop(), Turns(), list[str]()
        for _ in range(REQUESTS):
            await turns.begin()
        loop.call_soon(passed.append, "a turn")
        await turns.begin()
        assert passed == ["a turn"]

    asyncio.run(main())

"""How many requests begin in one turn of the event loop: the rest waits for the next turns, and health for none.

Whatever is ready in a turn runs before the loop looks at its sockets again. Seven hundred connections that send at once
would make a turn as long as all their requests take, and a health check, which needs a turn to be accepted and another
to be read, would wait for two of them.
"""

import asyncio
from collections import deque
from collections.abc import Container

from starlette.types import ASGIApp, Receive, Scope, Send

REQUESTS = 32
"""That begin in one turn: at about half a millisecond each, a turn takes tens of milliseconds at most."""


class Turns:
    """Lets requests begin, `REQUESTS` a turn, in the order in which they came. For one event loop."""

    def __init__(self) -> None:
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def begin(self) -> None:
        """Return in a turn that has room."""
        if self._begun == 0:
            asyncio.get_running_loop().call_soon(self._next_turn)
        if self._begun < REQUESTS:
            self._begun += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _next_turn(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < REQUESTS:
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled: the connection has gone
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next_turn)


class TurnsMiddleware:
    """Every request but health's begins in its turn."""

    def __init__(self, app: ASGIApp, at_once: Container[str]) -> None:
        self.app, self.at_once, self.turns = app, at_once, Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http" and scope["path"] not in self.at_once:
            await self.turns.begin()
        await self.app(scope, receive, send)

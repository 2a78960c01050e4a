"""HTTP/1.1 by hand, so that a request may be as wrong as it likes."""

import asyncio
from collections import Counter
from typing import NamedTuple

SECONDS = 120
"""For which an answer is waited for."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(NamedTuple):
    """What the server said."""

    status: int
    body: bytes


class ClosedIdleError(Exception):
    """A connection that was kept from an earlier request was closed before any byte of this answer."""


class Connections:
    """To one server. Those whose answer was read to its end are kept and used again, the last one first."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.counts: Counter[str] = Counter()
        """`sent_again`: requests whose kept connection was just being closed."""
        self._idle: list[Connection] = []

    async def open(self) -> Connection:
        """A new one, which is the caller's to close."""
        return await asyncio.open_connection(self.host, self.port)

    async def ask(self, request: bytes) -> Answer:
        """The answer to a whole request. As every HTTP client, send it again if a kept connection was closed."""
        try:
            return await self._exchange(request, again=True)
        except ClosedIdleError:
            self.counts["sent_again"] += 1
            return await self._exchange(request, again=False)

    async def _exchange(self, request: bytes, again: bool) -> Answer:
        while self._idle and self._idle[-1][0].at_eof():
            self._idle.pop()[1].close()
        kept = again and bool(self._idle)
        reader, writer = self._idle.pop() if kept else await self.open()
        done = False
        try:
            writer.write(request)
            async with asyncio.timeout(SECONDS):
                try:
                    first = await reader.readexactly(1)
                except (ConnectionError, EOFError) as error:
                    raise ClosedIdleError if kept else error from None
                found = await answer(reader, first)
            done = True
            return found
        finally:
            if done:
                self._idle.append((reader, writer))
            else:
                writer.close()


def request(path: str, body: bytes, *headers: str) -> bytes:
    """A POST of that body."""
    return head(path, len(body), *headers) + body


def head(path: str, length: int, *headers: str) -> bytes:
    """Of a POST whose body has that many bytes."""
    first = (f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}")
    return "\r\n".join((*first, *headers, "", "")).encode()


async def answer(reader: asyncio.StreamReader, first: bytes = b"") -> Answer:
    """One answer, of which `first` has been read."""
    lines = (first + await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    return Answer(int(lines[0].split()[1]), await reader.readexactly(length))


async def answers(reader: asyncio.StreamReader, seconds: float = SECONDS) -> list[Answer]:
    """All answers until the server closes, which it must do in so many seconds."""
    found = []
    async with asyncio.timeout(seconds):
        while first := await reader.read(1):
            found.append(await answer(reader, first))
    return found

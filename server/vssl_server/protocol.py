"""Uvicorn's HTTP protocol, with one write an answer instead of two, and a limit to a request's head in time and bytes.

Each write wakes the client, which on a busy machine takes the core from us in the middle of our work.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers; a little more may come with its last read."""


class Protocol(HttpToolsProtocol):
    """One connection. Its application has `state.service`, whose settings say how long a head may take."""

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the gathering of writes between uvicorn and the connection."""
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Count the bytes until the head is whole."""
        super().data_received(data)
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """A request begins: its head has its time."""
        super().on_message_begin()
        if self._timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_is_over()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._head_is_over()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        seconds = self.config.app.state.service.settings.receive_seconds  # type: ignore[union-attr]
        self._timer = self.loop.call_later(seconds, self._refuse, b"408 Request Timeout")

    def _head_is_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._head_bytes = None, 0

    def _refuse(self, status: bytes) -> None:
        self._head_is_over()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()


class GatheringTransport:
    """A transport that writes at the end of the loop's turn what was to be written in it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what waits, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            self._waiting.clear()

"""Uvicorn's HTTP protocol, with one write an answer instead of two, a limit to a request's head in time and bytes, and
an end for connections whose clients stop half way.

Each write wakes the client, which on a busy machine takes the core from us in the middle of our work.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vssl_server import metrics
from vssl_server.service import Service

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers; a little more may come with its last read."""

IDLE_SECONDS = 75
"""For which a connection is kept for a next request: longer than clients and balancers keep theirs (httpx 5, AWS 60),
so that it is they who close, and no request meets a connection that is just being closed here."""

LAST_LOOK_SECONDS = 0.01
"""A busy loop comes to its timers before it reads what has come: an idle connection is closed after one more look."""


class Protocol(HttpToolsProtocol):
    """One connection. Its application has `state.service`, whose settings say how long a head may take."""

    _timer: asyncio.TimerHandle | None = None
    """While a head is awaited."""
    _head_bytes = 0
    _rest: asyncio.TimerHandle | None = None
    """While the rest of a body is awaited whose request has been answered."""

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
        if self._service.draining:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """A request that was refused before its body had come: what is left of that has its time too."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._rest = self.loop.call_later(self._service.settings.receive_seconds, self.transport.close)

    def on_message_complete(self) -> None:
        """The body is whole; if its request was refused before, the connection is idle from now on."""
        super().on_message_complete()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless a request turns out to be there."""
        self.timeout_keep_alive_task = self.loop.call_later(LAST_LOOK_SECONDS, super().timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:
        """Count what is no HTTP."""
        metrics.REFUSALS.labels("invalid_http").inc()
        super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._head_is_over()
        if self._rest is not None:
            self._rest.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: what has come is answered, and an idle connection closed after one more look."""
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_handler()
        else:
            super().shutdown()

    @property
    def _service(self) -> Service:
        service: Service = self.config.app.state.service  # type: ignore[union-attr]
        return service

    def _await_head(self) -> None:
        seconds = self._service.settings.receive_seconds
        self._timer = self.loop.call_later(seconds, self._refuse, b"408 Request Timeout")

    def _head_is_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._head_bytes = None, 0

    def _refuse(self, status: bytes) -> None:
        self._head_is_over()
        if not self.transport.is_closing():
            metrics.REFUSALS.labels("head_timeout" if status.startswith(b"408") else "head_too_large").inc()
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
        """Write what waits, then close; a client that does not read it loses the rest."""
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(IDLE_SECONDS, self._transport.abort)

    def _flush(self) -> None:
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            self._waiting.clear()

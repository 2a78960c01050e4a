"""Between the HTTP protocol and its connection: fewer writes, and an end for clients that do not read."""

import array
import asyncio
from contextlib import suppress
from typing import Any

try:
    import fcntl
    import termios
except ImportError:  # Windows can't tell what the kernel has still to send
    fcntl = None  # type: ignore[assignment]

SLOW_SECONDS = 60.0
"""A client with an unsent answer must take `LEAST_RATE` on average over this time."""

LEAST_RATE = 1000
"""Bytes a second."""

LINGER_SECONDS = 1.0
"""How long a refused client may go on sending; all of it is dropped."""

LOOK_SECONDS = 0.1
"""Between two looks whether a TLS connection can be closed."""


class GatheringTransport:
    """A transport that writes at the end of the loop's turn what was to be written in it.

    Each write wakes the client, which on a busy machine takes the core from us in the middle of our work.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []
        self._handed = 0
        self._slow: asyncio.TimerHandle | None = None
        self._closing = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write at the end of the loop's turn; drop what comes after the end."""
        if self._closing:
            return
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def is_closing(self) -> bool:
        """Whether it was closed, even if something is left to send."""
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Send what waits, as long as the client takes it at the least rate, then close."""
        if not self._closing:
            self._closing = True
            self._flush()
            self._close()

    def end(self) -> None:
        """Close, but read on for a moment: a kernel that is sent more takes back the answers not yet read."""
        if self.is_closing() or not self._transport.can_write_eof():  # which TLS can't
            self.close()
            return
        self._flush()
        self._closing = True
        with suppress(OSError):  # the client is gone
            self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_SECONDS, self._transport.close)

    def lost(self) -> None:
        """The connection is gone."""
        if self._slow is not None:
            self._slow.cancel()

    def _close(self) -> None:
        # A TLS connection that is closed gets 30 seconds to send what it has, however much that is.
        if self._transport.get_write_buffer_size() and self._transport.get_extra_info("sslcontext"):
            if not self._transport.is_closing():
                self._transport.pause_reading()
                self._loop.call_later(LOOK_SECONDS, self._close)
        else:
            self._transport.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        self._waiting.clear()
        if self._slow is not None and not self._transport.get_write_buffer_size():
            self._slow.cancel()
            self._slow = None
        self._transport.write(data)
        self._handed += len(data)
        if self._slow is None and self._transport.get_write_buffer_size():
            self._look_later()

    def _look_later(self) -> None:
        self._slow = self._loop.call_later(SLOW_SECONDS, self._look, self._taken())

    def _look(self, taken_before: int) -> None:
        self._slow = None
        if self._transport.get_write_buffer_size():
            if self._taken() - taken_before < LEAST_RATE * SLOW_SECONDS:
                self._transport.abort()
            else:
                self._look_later()

    def _taken(self) -> int:
        """Bytes that the client's machine has acknowledged. The kernel takes megabytes that no client has seen yet."""
        unsent = array.array("i", [0])
        if fcntl is not None:
            try:
                fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, unsent)
            except (OSError, ValueError):
                unsent[0] = 0
        return self._handed - self._transport.get_write_buffer_size() - unsent[0]

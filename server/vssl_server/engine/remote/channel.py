"""Whole messages between a front process and the engine process, over a Unix socket.

From a front: `hello` with the id of a bundle, its number of slots and the memory; `submit` with an id, the seconds that
the request has waited, whether it goes behind others, and its slots; `cancel` with an id. From the engine: `state`,
whether the model can answer, first of all and whenever that changes; for each `submit` one of `done` with two times,
`failed` with the kind of error and its words, `dropped`; or `refused` with words in answer to `hello`.
"""

import json
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

SEND_SECONDS = 1
"""A message that the other side's queue does not take for so long ends the connection: that process is stopped."""

MOST_BYTES = 2**17
"""Of a message; the kernel takes over 200,000 by default."""


class TooLongError(Exception):
    """The message has too many bytes; the channel can still be used."""


class Channel:
    """One end of a connection. Any thread may send; one receives."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))
        self._socket, self._buffer = sock, bytearray(MOST_BYTES)

    def send(self, *message: object) -> None:
        """Send a kind and its fields.

        Raises:
            TooLongError: it was not sent.
            OSError: the other side is gone or does not read; the connection has ended.
        """
        data = json.dumps(message).encode()
        if len(data) > MOST_BYTES:
            raise TooLongError(f"a message of {len(data):,} bytes")
        try:
            self._socket.send(data)
        except OSError:
            self.end()
            raise

    def send_hello(self, bundle: str, slots: int, memory: int) -> None:
        """The first message: a bundle's id, and the memory with so many slots; OSError as `send`."""
        socket.send_fds(self._socket, [json.dumps(["hello", bundle, slots]).encode()], [memory])

    def receive(self) -> list[Any]:
        """The next message.

        Raises:
            EOFError: the connection has ended.
        """
        try:
            size = self._socket.recv_into(self._buffer)
        except OSError as error:
            raise EOFError from error
        if size == 0:
            raise EOFError
        message: list[Any] = json.loads(self._buffer[:size])
        return message

    def receive_hello(self) -> tuple[str, int, int]:
        """The bundle's id, the number of slots and the descriptor of their memory.

        Raises:
            EOFError: the connection has ended, or begins otherwise.
        """
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, MOST_BYTES, 1)
            kind, bundle, slots = json.loads(data or b"[0, 0, 0]")
        except (OSError, ValueError) as error:
            raise EOFError from error
        if kind != "hello" or len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise EOFError
        return bundle, slots, descriptors[0]

    def end(self) -> None:
        """Let both sides receive the end; from any thread."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket, after the end."""
        self.end()
        self._socket.close()


def connect(path: Path) -> Channel:
    """A channel to the engine process, which may accept it later.

    Raises:
        OSError: nobody holds this address.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return Channel(sock)


def listen(path: Path) -> socket.socket:
    """A socket at this path, in a folder of ours alone, that fronts can connect to.

    Raises:
        OSError: the path can't be used.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.bind(str(path))
        sock.listen(1024)
    except OSError:
        sock.close()
        raise
    return sock

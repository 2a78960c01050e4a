"""Sockets to listen on."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISSOCK

from vssl.errors import VsslError

ACCEPTED = 32
"""Connections that are accepted in one turn of the event loop."""


def bind(host: str, port: int, shared: bool = False, flag: str = "--port") -> socket.socket:
    """A socket that holds the address: a busy port is known before a model is loaded.

    With `shared`, other processes of this user may hold it too; those that listen share the connections.

    Raises:
        VsslError: the address is taken, not ours, or no address.
    """
    sock = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except (OSError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        reason = error.strerror if isinstance(error, OSError) else "no valid host name"
        raise VsslError(f"can't listen on {host}, port {port}: {reason}; choose with --host and {flag}") from error
    return sock


@contextmanager
def bind_unix(path: Path) -> Iterator[socket.socket]:
    """A Unix socket at the path until the end of the block. Every user may connect, as with a port.

    Raises:
        VsslError: somebody listens there, something else is there, or the folder can't be written.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()  # of a server that was killed
        sock.bind(str(path))
        path.chmod(0o666)
    except OSError as error:
        sock.close()
        raise VsslError(f"can't listen on --uds {path}: {error.strerror or error}") from error
    try:
        yield sock
    finally:
        sock.close()
        path.unlink(missing_ok=True)


def duplicates(sock: socket.socket) -> list[socket.socket]:
    """The socket, as many times as it is to accept connections in one turn of the loop.

    Libuv accepts one on each. Under a load that makes turns long, a new connection, such as a health check's, would
    wait for as many turns as others came before it.
    """
    return [sock.dup() for _ in range(ACCEPTED)]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, suppress(ConnectionRefusedError):
        client.connect(str(path))
        return True
    return False


def url(sock: socket.socket, scheme: str) -> str:
    """Where the socket listens."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

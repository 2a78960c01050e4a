"""Sockets to listen on, and the certificate that they show."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISSOCK

from vssl.errors import UsageError, VsslError
from vssl_server.settings import Settings

CERTIFICATE_SECONDS = 5.0
"""Between two looks at the certificate's files."""

logger = logging.getLogger("vssl.server")

ACCEPTED = 32
"""Connections that are accepted in one turn of the event loop."""


def bind(host: str, port: int, shared: bool = False, flag: str = "--port") -> socket.socket:
    """A socket that holds the address, so that a busy port is known before a model is loaded.

    With `shared` others of this user may hold it too; those that listen get a share of the connections each.

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
    """A Unix socket at the path, for every user as a port would be, until the block is left.

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
    """The socket so often as it is to accept connections in one turn of the loop.

    Libuv accepts one on each. Under a load that makes the turns long, whoever comes anew, as a health check does, would
    wait for as many turns as others have come before him.
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


def check_tls(settings: Settings) -> None:
    """Load the certificate once, so that a wrong one is told in one line.

    Raises:
        UsageError: it can't be read, or its key is another's.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:  # OpenSSL's own errors are OSErrors
            raise UsageError(f"--tls-certificate {certificate}, --tls-key {key}: {error}") from None


class Certificate:
    """The two files, and whether they were replaced since they were last loaded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded = self._refused = self._signature()

    def changed(self) -> bool:
        """Whether there is another pair that fits; one that does not is told once, and the last that did stays."""
        found = self._signature()
        if found == self._loaded:
            return False
        try:
            check_tls(self.settings)
        except UsageError as error:
            if found != self._refused:
                self._refused = found
                logger.error("the new certificate is not used, the old one stays: %s", error)
            return False
        self._loaded = found
        return True

    def _signature(self) -> list[tuple[int, int, int]]:
        found = []
        for file in (self.settings.tls_certificate, self.settings.tls_key):
            with suppress(OSError):
                assert file is not None
                status = file.stat()  # follows links: Kubernetes swaps one
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return found


async def renew(context: ssl.SSLContext, settings: Settings) -> None:
    """Show new connections the new certificate whenever the files change, until cancelled."""
    certificate = Certificate(settings)
    while True:
        await asyncio.sleep(CERTIFICATE_SECONDS)
        if await asyncio.to_thread(certificate.changed):
            assert settings.tls_certificate is not None
            context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
            logger.warning("the certificate has changed; new connections get the new one")

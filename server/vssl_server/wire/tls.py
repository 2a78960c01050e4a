"""The certificate that the server shows: checked at the start, and loaded again when its files change."""

import asyncio
import logging
import ssl
from contextlib import suppress

from vssl.errors import UsageError
from vssl_server.settings import Settings

CERTIFICATE_SECONDS = 5.0
"""Between two looks at the certificate's files."""

logger = logging.getLogger("vssl.server")


def check_tls(settings: Settings) -> None:
    """Load the certificate once, so that a wrong one is refused in one line.

    Raises:
        UsageError: it can't be read, or the key is not its own.
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
        """Whether there is a new pair that fits. One that does not is logged once, and the old pair stays."""
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
    """Use the new certificate for new connections whenever the files change, until cancelled."""
    certificate = Certificate(settings)
    while True:
        await asyncio.sleep(CERTIFICATE_SECONDS)
        if await asyncio.to_thread(certificate.changed):
            assert settings.tls_certificate is not None
            context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
            logger.warning("the certificate has changed; new connections get the new one")

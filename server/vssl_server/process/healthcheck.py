"""`python -m vssl_server.process.healthcheck`: exit status 0 if the server that its variables name can answer.

It imports only the standard library, as a container runs it every few seconds. Over TLS the certificate is not checked:
it is for the name that clients use, and the check connects to this machine alone.
"""

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Mapping

SECONDS = 4
"""For the answer."""


def ready(environment: Mapping[str, str]) -> bool:
    """Whether `/readyz` answers 200 at the server that these variables configure.

    Raises:
        OSError, HTTPException: it does not answer.
    """
    if uds := environment.get("VSSL_UDS"):
        return _answers(_UnixConnection(uds, timeout=SECONDS))
    host = environment.get("VSSL_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    old = environment.get("VSSL_PORT", "")  # read for one more release, if it is a number
    port = int(environment.get("VSSL_PORT_HTTP") or (old if old.isdecimal() else 8000))
    if "VSSL_TLS_CERTIFICATE" not in environment:
        try:
            return _answers(http.client.HTTPConnection(host, port, timeout=SECONDS))
        except (ConnectionResetError, http.client.HTTPException):
            pass  # it may speak TLS, by its flags
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return _answers(http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context))


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def _answers(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    finally:
        connection.close()


def main() -> int:
    """The exit status."""
    try:
        return 0 if ready(os.environ) else 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"vssl: the server does not answer: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The way to a server: its address, the credentials in it, the proxy in between, the trusted certificates."""

import base64
import ipaddress
import os
import re
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from vssl.errors import UsageError

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Address:
    """A server's address, fit to show: user and password are in `headers` alone.

    `proxy` comes from the environment; None for none, and for this machine.
    """

    url: str
    host: str
    headers: dict[str, str]
    proxy: str | None

    @property
    def way(self) -> str:
        """How requests get there, for a message, after the address."""
        return "" if self.proxy is None else f", through the proxy {without_secrets(self.proxy)}"

    @property
    def advice(self) -> str:
        """What to check if nothing answers."""
        if self.proxy is None:
            return "is the server running?"
        return f"is the proxy, which comes from the environment, the right one? NO_PROXY={self.host} goes around it"


def address(given: str, schemes: tuple[str, ...], example: str) -> Address:
    """Read an address.

    Raises:
        UsageError: it is not an address, or has another scheme.
    """
    wrong = UsageError(f"{without_secrets(given)}: not the address of a server; it must look like {example}")
    try:
        parsed = urlsplit(given)
        host, port = parsed.hostname, parsed.port
    except ValueError:  # its text may contain the password
        raise wrong from None
    if parsed.scheme not in schemes or not host:
        raise wrong
    place = f"[{host}]" if ":" in host else host
    url = f"{parsed.scheme}://{place}{'' if port is None else f':{port}'}{parsed.path.rstrip('/')}"
    headers = {}
    if parsed.username is not None:
        user = f"{unquote(parsed.username)}:{unquote(parsed.password or '')}"
        headers["authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Address(url, host, headers, None if is_loopback(host) else _proxy(parsed.scheme, place, port))


def without_secrets(url: str) -> str:
    """An address, valid or not, fit to show."""
    return re.sub(r"^([a-zA-Z0-9+.-]+://)?.*@", r"\1", url.partition("?")[0], flags=re.DOTALL)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def connected(kind: Any, to: Address, **settings: Any) -> Any:  # noqa: ANN401 — httpx2.Client or httpx2.AsyncClient
    """A client of httpx2 for one address.

    Raises:
        UsageError: the proxy or the certificates that the environment names can't be used.
    """
    try:
        return kind(verify=_trusted(to), proxy=to.proxy, trust_env=False, **settings)
    except ImportError as error:
        raise UsageError(
            f"{to.url}{to.way}: a SOCKS proxy needs a further package: pip install 'httpx2[socks]', or set "
            f"NO_PROXY={to.host} to go around it"
        ) from error
    except (ValueError, httpx2.InvalidURL) as error:
        raise UsageError(
            f"{to.url}{to.way}: such a proxy can't be used; look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        ) from error


def _trusted(to: Address) -> ssl.SSLContext:
    if not to.url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused, and loading certificates takes 20 ms
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        named = [f"{name}={os.environ[name]}" for name in CERTIFICATES if os.environ.get(name)]
        what = " and ".join(named) or "the certificates of this machine"
        raise UsageError(f"{what}: no certificates can be read from there ({error.strerror or error})") from error


def _proxy(scheme: str, place: str, port: int | None) -> str | None:
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or proxy_bypass(place if port is None else f"{place}:{port}"):
        return None
    return found if "://" in found else f"http://{found}"

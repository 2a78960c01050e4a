"""The way to a server: proxies, certificates and passwords of the environment and of addresses."""

import asyncio
import logging
import pickle
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import vssl
from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import proxied
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_client import AsyncClient, Client, ClientError, ConnectionFailed, ImageRejected, Overloaded, RequestRejected
from vssl_client.transports.network import without_secrets

FAR = "http://embeddings.example"
"""No such server: a request to it must go through a proxy to get anywhere."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment without anything about proxies, certificates and servers."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "VSSL_URL", "VSSL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def refusing() -> Iterator[str]:
    """A proxy that lets nothing through: host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")

        threading.Thread(target=refuse, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://127.0.0.1:9", "nonsense://x"])
def test_this_machine_needs_no_proxy(
    proxy: str, server: str, tiny_bundle: Bundle, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", proxy)
    environment.setenv("http_proxy", proxy)
    images = pictures(3)
    for url in (server, server.replace("127.0.0.1", "localhost")):
        with Client(url, retries=0) as client:
            assert_same(client.embed(images), oracle(tiny_bundle, images))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("proxy", "advice"),
    [("socks5://me:s3cret@proxy:9", r"httpx2\[socks\]"), ("nonsense://me:s3cret@proxy:9", "ALL_PROXY")],
)
def test_a_proxy_that_can_not_be_used_is_told(
    kind: type, proxy: str, advice: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", proxy)
    with pytest.raises(UsageError, match=advice) as caught:
        kind(FAR)
    assert "s3cret" not in str(caught.value)
    assert "proxy:9" in str(caught.value)
    environment.setenv("NO_PROXY", "embeddings.example")
    kind(FAR)


def test_a_proxy_that_refuses_is_not_a_server_that_is_not_running(
    refusing: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("HTTPS_PROXY", f"http://me:s3cret@{refusing}")
    with (
        Client(FAR.replace("http:", "https:"), retries=0) as client,
        pytest.raises(
            ConnectionFailed, match=rf"through the proxy http://{refusing}: the proxy refuses .*403"
        ) as caught,
    ):
        client.model()
    assert "s3cret" not in str(caught.value)
    assert "running" not in str(caught.value)
    environment.setenv("HTTP_PROXY", refusing)
    with (
        Client(FAR, retries=0) as client,
        pytest.raises(RequestRejected, match=rf"through the proxy http://{refusing}"),
    ):
        client.model()
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Client(FAR, retries=0) as client, pytest.raises(ConnectionFailed, match=r"NO_PROXY=embeddings\.example"):
        client.model()


def test_a_proxy_of_the_environment_is_used_for_others(server: str, environment: pytest.MonkeyPatch) -> None:
    with proxied(server) as (proxy, url):
        environment.setenv("ALL_PROXY", url)
        proxy.always = (429, {})
        with Client(f"{FAR}:8000", retries=0) as client, pytest.raises(Overloaded, match=f"through the proxy {url}"):
            client.model()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_certificates_that_can_not_be_read_are_told(
    content: bytes | None, environment: pytest.MonkeyPatch, tmp_path: Path, server: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    environment.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(UsageError, match=rf"SSL_CERT_FILE={file}"):
        Client("https://embeddings.example")
    with Client(server) as client:  # which needs none
        client.model()


SECRETS = [
    "http://user:s3cret@127.0.0.1:9",
    "http://user:s3cret@127.0.0.1:port",
    "http://user:s3c/ret@127.0.0.1",
    "ftp://user:s3cret@host",
    "user:s3cret@host",
    "http://s3cret@127.0.0.1:9/x?key=s3cret",
    "http://user:s3@ret@127.0.0.1:9",
    "http://[::1:s3cret@x",
]


@pytest.mark.parametrize("transport", ["http", "triton", "grpc"])
@pytest.mark.parametrize("url", SECRETS)
def test_a_password_in_an_address_is_never_shown(url: str, transport: Any, caplog: pytest.LogCaptureFixture) -> None:
    if transport != "http":
        pytest.importorskip("tritonclient")
    caplog.set_level(logging.DEBUG)
    said = ""
    try:
        with Client(url, transport=transport, model="m", retries=0, timeout=5) as client:
            said = repr(client) + client._repr_html_()
            client.model()
    except (UsageError, ClientError) as error:
        said += str(error)
    assert said
    for text in (said, caplog.text, without_secrets(url)):
        assert "s3" not in text
        assert "ret" not in text


def test_user_and_password_of_an_address_are_sent(server: str) -> None:
    with proxied(server) as (proxy, url):
        with Client(url.replace("://", "://user:p%40ss@")) as client:
            client.model()
        assert proxy.seen.get() == "Basic dXNlcjpwQHNz"
        assert proxy.headers["User-Agent"] == f"vssl/{vssl.__version__}"


def test_servers_and_key_come_from_the_environment(server: str, environment: pytest.MonkeyPatch) -> None:
    with proxied(server) as (proxy, url):
        environment.setenv("VSSL_URL", f"{url}, {server}")
        environment.setenv("VSSL_API_KEY", "k")
        with Client() as client:
            client.model()
            assert client.urls == [url, server]
        assert proxy.seen.get() == "Bearer k"
        with Client(url, api_key="other") as client:
            client.model()
        assert proxy.seen.get() == "Bearer other"


def test_an_own_client_carries_the_requests_and_is_left_open(server: str, tiny_bundle: Bundle) -> None:
    asked: list[httpx2.Request] = []
    with httpx2.Client(event_hooks={"request": [asked.append]}) as own:
        with Client(server, http_client=own, api_key="k") as client:
            assert_same(client.embed(pictures(2)), oracle(tiny_bundle, pictures(2)))
        assert not own.is_closed
    assert [request.headers["authorization"] for request in asked] == ["Bearer k"]
    with pytest.raises(UsageError, match="http_client"):
        Client(server, transport="triton", model="tiny", http_client=own)


def test_an_own_client_of_a_loop_likewise(server: str) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient() as own:
            async with AsyncClient(server, http_client=own) as client:
                assert len(await client.embed(pictures(2))) == 2
            assert not own.is_closed

    asyncio.run(run())


def test_errors_have_the_id_that_the_server_knows(server: str, impatient: None) -> None:
    with proxied(server) as (proxy, url), Client(url, retries=1) as client:
        with pytest.raises(ImageRejected) as rejected:
            client.embed([*pictures(1), b"text"])
        assert rejected.value.request_id == proxy.headers["X-Request-ID"]
        faults: list[Any] = ["drop", (429, {}), (500, {}), (400, {}), "garbage"]
        for fault in faults:
            proxy.always = fault
            with pytest.raises(ClientError) as caught:
                client.model()
            assert caught.value.request_id == proxy.headers["X-Request-ID"]
            assert pickle.loads(pickle.dumps(caught.value)).request_id == caught.value.request_id


@pytest.mark.parametrize("way", ["triton", "grpc"])
def test_so_they_have_over_the_protocol(way: Any) -> None:
    pytest.importorskip("tritonclient")
    with (
        Client("127.0.0.1:9", transport=way, model="tiny", retries=0) as client,
        pytest.raises((ConnectionFailed, Overloaded)) as caught,
    ):
        client.model()
    assert caught.value.request_id


def test_retries_are_logged(server: str, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vssl.client")
    with proxied(server) as (proxy, url), Client(url) as client:
        proxy.faults.put((500, {}))
        client.embed(pictures(1))
    (line,) = [record.getMessage() for record in caplog.records if record.name == "vssl.client"]
    assert "answers 500: not now" in line
    assert "try 2 of 6" in line

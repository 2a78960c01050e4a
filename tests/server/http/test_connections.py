"""What a client may do to a connection: Upgrade, half of anything, requests in a row, slow reading."""

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from starlette.responses import Response

from tests.server.conftest import Served, expected, over_tcp, png, serving
from tests.server.http.test_slow_clients import all_of
from vssl.bundle.reading import Bundle
from vssl.engine import Engine
from vssl_server.decoding.pool import Pool
from vssl_server.engine.model import Model
from vssl_server.http import connection as protocol
from vssl_server.http import transport
from vssl_server.http.app import create_app
from vssl_server.process.listening import bind, bind_unix
from vssl_server.process.serve import Server
from vssl_server.process.serve import _config as listening_config
from vssl_server.settings import Settings

CURL = (
    b"POST /v1/embed HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n"
)
"""The head that `curl --http2 --data-binary` sends."""
JAVA = (
    b"POST /v1/embed HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: %d\r\nHost: 127.0.0.1:8000\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
    b"User-Agent: Java-http-client/17.0.15\r\nContent-Type: image/png\r\n\r\n"
)
"""The head that Java's HttpClient sends by default; Spring's RestClient uses it."""
JAVA_CHUNKED = (
    b"POST /v1/embed HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: 127.0.0.1:8000\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nTransfer-encoding: chunked\r\n"
    b"Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.15\r\nContent-Type: image/png\r\n\r\n"
)
WEBSOCKET = (
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: %d\r\n\r\n"
)
INNER = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
"""A body that reads like a request."""


@pytest.fixture(scope="module")
def impatient(tiny_bundle: Bundle) -> Iterator[tuple[str, int]]:
    """A server that gives a head .3 seconds, a body a little more, and an idle connection 1."""
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(tiny_bundle, name="connections", receive_seconds=0.3) as served,
        over_tcp(served.client.app, timeout_keep_alive=1) as address,
    ):
        patch.setattr(protocol, "APPLICATION_FIRST_SECONDS", 0.3)
        yield address


def send(connection: socket.socket, data: bytes, apart: bool) -> None:
    """In one packet, or the last third by itself and what is before it in two."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    cuts = [0, data.index(b"\r\n\r\n") // 2, data.index(b"\r\n\r\n") + 4, len(data)] if apart else [0, len(data)]
    for start, end in pairwise(cuts):
        connection.sendall(data[start:end])
        threading.Event().wait(0.02 if apart else 0)


def answers(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("head", [CURL, JAVA, JAVA_CHUNKED])
def test_an_offer_to_upgrade_is_answered_as_if_it_were_not_there(
    address: tuple[str, int], tiny_bundle: Bundle, head: bytes, apart: bool
) -> None:
    file = png(7)
    request = head + chunked(file) if head is JAVA_CHUNKED else head % len(file) + file
    with socket.create_connection(address, timeout=60) as connection:
        for _ in range(2):  # the connection goes on
            send(connection, request, apart)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200, answer.read()
            row = httpx2.Response(200, content=answer.read()).json()["data"][0]
            assert row["embedding"] == pytest.approx(expected(tiny_bundle, [file]).embedding[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("head", [CURL, JAVA, WEBSOCKET])
def test_a_body_behind_an_offer_to_upgrade_is_no_request(impatient: tuple[str, int], head: bytes, apart: bool) -> None:
    with socket.create_connection(impatient, timeout=60) as connection:
        send(connection, head % len(INNER) + INNER, apart)
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = all_of(connection)
    assert answers(received) == [200 if head is WEBSOCKET else 422, 200]
    assert b"101 " not in received
    assert b'"object":"list"' in received.rpartition(b"\r\n\r\n")[2]  # the second is that of the second request


def test_many_upgrades_in_one_packet_are_as_many_answers(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        last = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall((WEBSOCKET % len(INNER) + INNER) * 20 + last)
        assert answers(all_of(connection)) == [200] * 21


def test_a_tunnel_is_refused(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n" + INNER)
        assert answers(all_of(connection)) == [501]


def test_curl_itself(address: tuple[str, int], tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(3))
    url = f"http://{address[0]}:{address[1]}/v1/embed"
    sent = [
        "curl",
        "-s",
        "--http2",
        "-H",
        "Content-Type: image/png",
        "--data-binary",
        f"@{tmp_path / 'image.png'}",
        url,
    ]
    shown = subprocess.run(sent, capture_output=True, check=True, timeout=60)
    assert b'"embedding"' in shown.stdout


CLOSED = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (CLOSED, b"\r\n"),
        (CLOSED, b"GET /heal"),
        (CLOSED, b"GET / HTTP/1.1\r\nHost: x\r\n"),
        (WEBSOCKET % 100000, b"some"),
        (WEBSOCKET % 0, b"\x81\x05hello"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", b"some"),
        (b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\n", b"some"),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx"),
        (b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX-Trailer: 1\r\n"),
        (CLOSED + CLOSED + b"GET ", b"/"),
        (b"", b"\r\n"),
        (b"", b"\r"),
    ],
)
def test_every_connection_ends_whatever_was_sent(impatient: tuple[str, int], first: bytes, then: bytes) -> None:
    """And what trickles in does not keep it."""
    with socket.create_connection(impatient, timeout=60) as connection:
        connection.sendall(first)
        threading.Event().wait(0.1)
        connection.sendall(then)
        with ThreadPoolExecutor(1) as executor:
            end = executor.submit(all_of, connection)
            while then == b"\r\n" and not wait([end], 0.1).done:
                try:
                    connection.sendall(then)
                except OSError:
                    break
            end.result(30)


@pytest.mark.parametrize("behind", [b"\r\n" * 100_000, b"0\r\nX-Trailer: " + b"x" * 300_000, b"1;" + b"x" * 300_000])
def test_what_is_no_body_has_its_limit_behind_the_head_too(address: tuple[str, int], behind: bytes) -> None:
    head = b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall((b"" if behind.startswith(b"\r") else head) + behind)
        assert answers(all_of(connection)) == [431]


def test_a_trailer_is_no_header(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("key\n")
    head = b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n"
    with (
        serving(tiny_bundle, name="trailers", api_keys_file=tmp_path / "keys") as served,
        over_tcp(served.client.app) as address,
        socket.create_connection(address, timeout=60) as connection,
    ):
        body = chunked(png(1))[:-2] + b"Authorization: Bearer key\r\n\r\n"
        connection.sendall(head + b"Connection: close\r\n\r\n" + body)
        assert answers(all_of(connection)) == [401]


LONG = protocol.MAX_HEAD_BYTES


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("url", [b"/%s", b"/v1/models?q=%s", b"/v2/models/%s"])
@pytest.mark.parametrize("length", [LONG, 300_000])
def test_a_long_url_is_a_head_that_is_too_large(address: tuple[str, int], url: bytes, length: int, apart: bool) -> None:
    head = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % (url % (b"x" * length))
    with socket.create_connection(address, timeout=60) as connection:
        send(connection, head, apart)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.headers["content-type"]) == (431, "application/json")
        refused = json.loads(answer.read())["error"]
        assert refused == "the request's line and headers are over 64 KiB" or not url.startswith(b"/v2")
        assert url.startswith(b"/v2") or refused["code"] == "head_too_large"
        assert not connection.recv(1)


def test_a_head_has_the_same_limit_whether_its_url_or_a_header_is_long(address: tuple[str, int]) -> None:
    for rest in (b"?%s HTTP/1.1\r\nHost: x\r\n", b" HTTP/1.1\r\nHost: x\r\nX: %s\r\n"):
        for length, status in ((LONG - 100, 200), (LONG, 431)):
            with socket.create_connection(address, timeout=60) as connection:
                connection.sendall(b"GET /healthz" + rest % (b"x" * length) + b"Connection: close\r\n\r\n")
                assert answers(all_of(connection)) == [status]


SLOW_ROUTE = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


def take_a_moment() -> dict[str, bool]:
    time.sleep(0.6)
    return {"slow": True}


@pytest.fixture(scope="module")
def slow(tiny_bundle: Bundle) -> Iterator[tuple[str, int]]:
    """As `impatient`, with a route that takes longer than a head may take."""
    with serving(tiny_bundle, name="slow", receive_seconds=0.3) as served:
        served.client.app.add_api_route("/slow", take_a_moment)  # type: ignore[attr-defined]
        with over_tcp(served.client.app) as address:
            yield address


@pytest.mark.parametrize(
    ("behind", "refusal"),
    [
        (b"GET /hea", 408),
        (b"no http at all\r\n\r\n", 400),
        (b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000, 431),
        (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", 501),
    ],
    ids=["half", "no HTTP", "bad body", "too large", "tunnel"],
)
@pytest.mark.parametrize("asked", [1, 2])
def test_a_refusal_comes_after_the_answers_to_what_was_asked_before(
    slow: tuple[str, int], asked: int, behind: bytes, refusal: int
) -> None:
    with socket.create_connection(slow, timeout=60) as connection:
        connection.sendall(SLOW_ROUTE + CLOSED * (asked - 1) + behind)
        received = all_of(connection)
    assert answers(received) == [200] * asked + [refusal]
    assert received.index(b'"slow"') < received.index(b"HTTP/1.1 %d" % refusal)


def test_only_so_many_requests_wait_on_a_connection(slow: tuple[str, int]) -> None:
    with socket.create_connection(slow, timeout=60) as connection:
        connection.sendall(SLOW_ROUTE + CLOSED * 5_000)
        assert answers(all_of(connection)) == [200] * (1 + protocol.MAX_PIPELINED) + [429]


@pytest.fixture(scope="module")
def large(tiny_bundle: Bundle) -> Iterator[Served]:
    with serving(tiny_bundle, name="large") as served:
        served.client.app.add_api_route("/large", lambda: Response(bytes(25_000_000)))  # type: ignore[attr-defined]
        yield served


@pytest.mark.parametrize(
    ("header", "tls"), [(b"", False), (b"Connection: close\r\n", False), (b"Connection: close\r\n", True)]
)
def test_a_client_that_reads_slowly_gets_all(
    large: Served, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path], header: bytes, tls: bool
) -> None:
    """Long after the idle time and the time for a look at its progress."""
    monkeypatch.setattr(transport, "SLOW_SECONDS", 0.3)
    keep: dict[str, object] = {"timeout_keep_alive": 0.3}
    if tls:
        keep |= {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
    with over_tcp(large.client.app, **keep) as address:
        connection = socket.create_connection(address, timeout=60)
        if tls:
            connection = ssl.create_default_context(cafile=str(certificate[0])).wrap_socket(
                connection, server_hostname="127.0.0.1"
            )
        with connection:
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
            got = 0
            while chunk := connection.recv(2_000_000):
                got += len(chunk)
                threading.Event().wait(0.06 * len(chunk) / 2_000_000)
    assert got > 25_000_000


@pytest.mark.parametrize("unix", [False, True])
def test_a_busy_server_accepts_many_connections_in_a_turn(tiny_bundle: Bundle, tmp_path: Path, unix: bool) -> None:
    """Else a health check waits, when the turns are long, for one turn for each connection that came before it."""
    uvloop = pytest.importorskip("uvloop")
    settings = Settings(uds=tmp_path / "socket") if unix else Settings()

    async def turns() -> int:
        app = create_app(settings, [Model(tiny_bundle.manifest, Engine(tiny_bundle), settings, pool)])
        config = listening_config(app, settings)
        config.load()
        server = Server(config, app.state.registry, app.state.repository, lambda line, address: None)
        server.lifespan = config.lifespan_class(config)
        await server.startup([sock])
        clients = [socket.socket(sock.family) for _ in range(64)]
        for client in clients:
            client.connect(sock.getsockname())  # the kernel does that
        taken = 0
        while len(server.server_state.connections) < len(clients):
            await asyncio.sleep(0)
            taken += 1
        for client in clients:
            client.close()
        await server.shutdown([sock])
        return taken

    with Pool(1) as pool, bind_unix(tmp_path / "socket") if unix else bind("127.0.0.1", 0) as sock:
        assert uvloop.run(turns()) < 16

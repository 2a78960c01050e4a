"""Clients that send slowly, for ever, or too much of a head; TLS; an engine that hangs. Over real connections."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.responses import Response

from tests.server.conftest import GatedEngine, Served, over_tcp, png, serving
from tests.server.http.test_errors import error
from tests.server.process.test_serve import failed, running
from vssl.bundle.reading import Bundle
from vssl_server.http import transport
from vssl_server.http.connection import Protocol

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def impatient(tiny_bundle: Bundle) -> Iterator[tuple[str, int]]:
    with serving(tiny_bundle, name="impatient", receive_seconds=0.3) as served, over_tcp(served.client.app) as address:
        yield address


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


@pytest.mark.parametrize("head", [b"", b"POST /v1/em", b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_come_is_given_up(impatient: tuple[str, int], head: bytes) -> None:
    with socket.create_connection(impatient, timeout=60) as connection:
        connection.sendall(head)
        assert all_of(connection).startswith(b"HTTP/1.1 408 ")
    assert counted(impatient, "head_timeout")


def counted(address: tuple[str, int], cause: str) -> bool:
    return f'vssl_refusals_total{{cause="{cause}"}}' in httpx2.get(f"http://{address[0]}:{address[1]}/metrics").text


def test_what_is_no_http_is_refused(impatient: tuple[str, int]) -> None:
    with socket.create_connection(impatient, timeout=60) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        received = all_of(connection)
        assert received.startswith(b"HTTP/1.1 400 ")
        assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    assert counted(impatient, "invalid_http")


def test_a_body_that_does_not_come_is_given_up(impatient: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*impatient, timeout=60)
    connection.putrequest("POST", "/v1/embed")
    for name, value in (PNG | {"Content-Length": "1000"}).items():
        connection.putheader(name, value)
    connection.endheaders(b"the first bytes")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert b"request_timeout" in answer.read()
    connection.close()


def test_a_head_without_end_is_cut_off(impatient: tuple[str, int]) -> None:
    with socket.create_connection(impatient, timeout=60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        try:
            for _ in range(10_000):
                connection.sendall(b"X-Flood: " + b"x" * 1000 + b"\r\n")
            received = all_of(connection)
        except OSError:  # closed while we were sending, as hoped; its answer may have been lost with it
            received = b""
        assert received.startswith(b"HTTP/1.1 431 ") or not received
    assert counted(impatient, "head_too_large")


def test_others_are_served_meanwhile(impatient: tuple[str, int]) -> None:
    slow = [socket.create_connection(impatient) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /v1/embed HTTP/1.1\r\n")
    answer = httpx2.post(f"http://{impatient[0]}:{impatient[1]}/v1/embed", content=png(1), headers=PNG)
    assert answer.status_code == 200
    for connection in slow:
        connection.close()


def test_several_requests_on_one_connection_have_their_time_each(impatient: tuple[str, int]) -> None:
    with httpx2.Client(base_url=f"http://{impatient[0]}:{impatient[1]}") as client:
        for shade in range(1, 6):
            assert client.post("/v1/embed", content=png(shade), headers=PNG).status_code == 200
            threading.Event().wait(0.1)


def test_a_body_that_was_refused_must_end_too(impatient: tuple[str, int]) -> None:
    with socket.create_connection(impatient, timeout=60) as connection:
        connection.sendall(b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert answer_on(connection) == 415
        connection.sendall(b"the first bytes")
        assert all_of(connection) == b""


def test_a_connection_is_used_again_after_a_body_that_was_refused(tiny_bundle: Bundle) -> None:
    with (
        serving(tiny_bundle, name="refuses", max_body_bytes=100_000) as served,
        over_tcp(served.client.app) as address,
        socket.create_connection(address, timeout=60) as connection,
    ):
        head = "POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 200000\r\n\r\n"
        for _ in range(2):
            connection.sendall(head.encode())
            assert answer_on(connection) == 413
            connection.sendall(bytes(200_000))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_on(connection) == 200


@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
def test_a_client_that_does_not_read_loses_its_connection(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    monkeypatch.setattr(transport, "SLOW_SECONDS", 1)
    lost = threading.Event()

    class Watched(Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    with serving(tiny_bundle, name="unread") as served:
        served.client.app.add_api_route("/large", lambda: Response(bytes(50_000_000)))  # type: ignore[attr-defined]
        with (
            over_tcp(served.client.app, http=Watched, timeout_keep_alive=1) as address,
            socket.create_connection(address, timeout=60) as connection,
        ):
            connection.sendall(f"GET /large HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
            assert lost.wait(60)


def answer_on(connection: socket.socket) -> int:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def blocking() -> tuple[threading.Event, type[Protocol]]:
    """A protocol that keeps the loop busy when it is sent `busy`, and the event that it does."""
    stuck = threading.Event()

    class Busy(Protocol):
        def data_received(self, data: bytes) -> None:
            if data == b"busy":
                stuck.set()
                time.sleep(1.5)
            super().data_received(data)

    return stuck, Busy


def test_a_request_that_has_come_when_the_server_ends_is_answered(tiny_bundle: Bundle) -> None:
    stuck, busy = blocking()
    with serving(tiny_bundle, name="ends") as served, contextlib.ExitStack() as stack:
        with over_tcp(served.client.app, http=busy, timeout_keep_alive=2) as address:
            connection, other = (stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(2))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_on(connection) == 200
            other.sendall(b"busy")
            assert stuck.wait(60)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_on(connection) == 200


def test_a_request_that_comes_while_the_loop_is_busy_is_not_taken_for_idleness(tiny_bundle: Bundle) -> None:
    """The connection's time is over before the loop comes to read the request that has come in time."""
    stuck, busy = blocking()
    with (
        serving(tiny_bundle, name="busy loop") as served,
        over_tcp(served.client.app, http=busy, timeout_keep_alive=1) as address,
        socket.create_connection(address, timeout=60) as connection,
        socket.create_connection(address, timeout=60) as other,
    ):
        for last in (False, True):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_on(connection) == 200
            if not last:
                other.sendall(b"busy")
                assert stuck.wait(60)


def test_an_engine_that_hangs_turns_readiness_red_until_it_returns(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with serving(tiny_bundle, engine, "hangs", deadline_seconds=0.2) as running:
        error(running.client.post("/v1/embed", content=png(1), headers=PNG), 504, "deadline_exceeded")
        wait_until(running, 503)
        error(running.client.post("/v1/embed", content=png(1), headers=PNG), 503, "not_ready")
        engine.let.release(100)
        wait_until(running, 200)
        assert running.client.post("/v1/embed", content=png(1), headers=PNG).status_code == 200


def wait_until(running: Served, status: int) -> None:
    for _ in range(10_000):
        if running.client.get("/readyz").status_code == status:
            return
    raise AssertionError(f"/readyz never answered {status}")


def test_tls_over_http_and_grpc(tiny_bundle: Bundle, certificate: tuple[Path, Path]) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    flags = ["--tls-certificate", str(certificate[0]), "--tls-key", str(certificate[1]), "--grpc-port", "0"]
    with running(tiny_bundle.location, *flags) as server:
        https, grpc = server.line.split(" on ")[1].split(" and ")
        context = ssl.create_default_context(cafile=str(certificate[0]))
        answer = httpx2.post(f"{https}/v1/embed", content=png(9), headers=PNG, verify=context)
        assert answer.status_code == 200
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{https}/healthz")  # a certificate that nobody vouches for
        address = grpc.strip().removeprefix("grpc://")
        with triton.InferenceServerClient(address, ssl=True, root_certificates=str(certificate[0])) as client:
            assert client.is_server_ready()


def test_tls_files_that_do_not_fit_are_one_line(
    tiny_bundle: Bundle, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("no key")
    for key, why in ((tmp_path / "key", "--tls-key"), (tmp_path / "none", "No such file")):
        status, written = failed(
            tiny_bundle.location, "--port", "0", "--tls-certificate", str(certificate[0]), "--tls-key", str(key)
        )
        assert status == 2
        assert why in written
    status, written = failed(tiny_bundle.location, "--port", "0", "--tls-certificate", str(certificate[0]))
    assert (status, "belong together" in written) == (2, True)

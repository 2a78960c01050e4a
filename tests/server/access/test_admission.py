"""Bodies in memory are bounded all together: a request is admitted by the length that it announces."""

import gzip
import socket
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from tests.server.conftest import Served, over_tcp, png, serving
from vssl.bundle.reading import Bundle

LIMIT, LARGEST = 100_000, 60_000


@pytest.fixture(scope="module")
def limited(tiny_bundle: Bundle) -> Iterator[tuple[Served, tuple[str, int]]]:
    with (
        serving(tiny_bundle, name="limited bytes", max_body_bytes=LARGEST, max_pending_bytes=LIMIT) as running,
        over_tcp(running.client.app) as address,
    ):
        yield running, address


def begin(address: tuple[str, int], *headers: str, path: str = "/v1/embed") -> socket.socket:
    """A connection whose request's head is sent."""
    connection = socket.create_connection(address, timeout=60)
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: image/png", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def admitted(connection: socket.socket) -> None:
    """The server wants the body."""
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")


def answer(connection: socket.socket) -> tuple[int, bytes]:
    with connection, HTTPResponse(connection) as response:
        response.begin()
        if response.status == 429:
            assert response.getheader("retry-after")
        return response.status, response.read()


def finish(connection: socket.socket, length: int) -> None:
    """Send the body, and wait for the answer: what it held is free then."""
    connection.sendall(png(9).ljust(length, b"\0"))
    assert answer(connection)[0] == 200


def test_what_is_announced_counts_before_it_comes(limited: tuple[Served, tuple[str, int]]) -> None:
    served, address = limited
    slow = begin(address, f"Content-Length: {LARGEST}", "Expect: 100-continue")
    admitted(slow)
    status, body = answer(begin(address, "Content-Length: 50000"))  # not a byte of its body is sent
    assert (status, b'"bodies_full"' in body) == (429, True)
    small = begin(address, f"Content-Length: {len(png(9))}")
    small.sendall(png(9))
    assert answer(small)[0] == 200
    assert answer(begin(address, f"Content-Length: {LARGEST + 1}"))[0] == 413
    finish(slow, LARGEST)
    finish(begin(address, f"Content-Length: {LARGEST}"), LARGEST)
    assert served.client.app.state.registry.pending.bytes == 0  # type: ignore[attr-defined]


def test_a_body_without_a_length_counts_as_it_comes(limited: tuple[Served, tuple[str, int]]) -> None:
    _, address = limited
    slow = begin(address, f"Content-Length: {LARGEST}", "Expect: 100-continue")
    admitted(slow)
    chunked = begin(address, "Transfer-Encoding: chunked")
    for size, data in ((1, b"x"), (LIMIT - LARGEST, bytes(LIMIT - LARGEST))):
        chunked.sendall(f"{size:x}\r\n".encode() + data + b"\r\n")
    assert answer(chunked)[0] == 429
    finish(slow, LARGEST)


def test_what_a_body_unpacks_to_counts_too(limited: tuple[Served, tuple[str, int]]) -> None:
    _, address = limited
    packed = gzip.compress(png(9).ljust(LARGEST, b"\0"))

    def ask() -> int:
        asked = begin(address, f"Content-Length: {len(packed)}", "Content-Encoding: gzip")
        asked.sendall(packed)
        return answer(asked)[0]

    slow = begin(address, "Content-Length: 50000", "Expect: 100-continue")
    admitted(slow)
    assert ask() == 429
    finish(slow, 50_000)
    assert ask() == 200


def test_over_grpc(tiny_bundle: Bundle) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    from tests.server.grpc.test_service import over_grpc

    with (
        serving(tiny_bundle, name="grpc bytes", max_body_bytes=9000, max_pending_bytes=9000) as running,
        over_grpc(running) as address,
        triton.InferenceServerClient(address) as client,
        running.client.app.state.registry.pending.request() as held,  # type: ignore[attr-defined]
    ):
        image = triton.InferInput("image", [1, 32, 32, 3], "UINT8")
        image._raw_content = bytes(3072)
        held.reach(6000)
        with pytest.raises(triton.InferenceServerException, match="over 9,000 bytes") as refused:
            client.infer("grpc bytes", [image])
        assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"

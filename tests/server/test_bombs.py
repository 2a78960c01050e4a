"""Small bodies that would unpack to a lot, at a server in a process of its own: refused, and its memory stays flat."""

import gzip
import json
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx2
import pytest

from tests.bombs import bombs
from tests.server.conftest import png
from tests.server.test_process import Server, running
from vssl.bundle import Bundle

LIMIT = 5_000_000
GROWTH = 30_000
"""kB; each of the bombs would take three times as much, and most a hundred times."""

ROUTES = {
    "/v1/embed": "image/png",
    "/v1/embed?on_error=return": "multipart/form-data; boundary=x",
    "/v1/embed?fields=embedding": "application/json",
    "/v1/embeddings": "application/json",
    "/v2/models/tiny/infer": "application/json",
    "/v2/models/tiny_image/infer": "application/octet-stream",
}


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Server]:
    with running(tiny_bundle.location, "--max-body-bytes", str(LIMIT)) as server:
        for _ in range(20):  # so that what it needs anyway is there
            assert post(server, "/v1/embed", "image/png", png(9, 300, 300)).status_code == 200
            assert post(server, "/v1/embed", "image/png", bytes(LIMIT)).status_code == 422
        yield server


def post(server: Server, path: str, kind: str, body: bytes, **headers: str) -> httpx2.Response:
    named = {"Content-Type": kind} | {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx2.post(f"{server.url}{path}", content=body, headers=named, timeout=60)


@cache
def spaces(encoding: str) -> bytes:
    data = b" " * 100_000_000
    return gzip.compress(data) if encoding == "gzip" else zlib.compress(data)


def peak(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("name", bombs())
def test_images(server: Server, name: str) -> None:
    before, data = peak(server), bombs()[name]
    assert post(server, "/v1/embed", "image/png", data).status_code == 422
    bare = post(server, "/v2/models/tiny_image/infer", "image/png", data, Inference_Header_Content_Length="0")
    assert bare.status_code == 422
    assert peak(server) < before + GROWTH


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(("path", "kind"), ROUTES.items())
def test_packed_bodies(server: Server, path: str, kind: str, encoding: str) -> None:
    before, packed = peak(server), spaces(encoding)
    assert len(packed) < LIMIT
    assert post(server, path, kind, packed, Content_Encoding=encoding).status_code == 413
    assert peak(server) < before + GROWTH


def test_over_grpc(tiny_bundle: Bundle) -> None:
    """gRPC's own compression, of which a message's limit is the unpacked size."""
    triton = pytest.importorskip("tritonclient.grpc")
    with running(tiny_bundle.location, "--grpc-port", "0", "--max-body-bytes", str(LIMIT)) as server:
        with triton.InferenceServerClient(server.line.partition("grpc://")[2].strip()) as client:
            assert client.is_server_ready()
            before = peak(server)
            image = triton.InferInput("image", [30_000, 32, 32, 3], "UINT8")
            image._raw_content = bytes(30_000 * 3072)
            with pytest.raises(triton.InferenceServerException, match="larger"):
                client.infer("tiny", [image], compression_algorithm="gzip")
        assert peak(server) < before + GROWTH
        assert json.loads(httpx2.get(f"{server.url}/readyz").content) == {"status": "ready"}

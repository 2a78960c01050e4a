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
from tests.server.process.test_serve import Server, running
from vssl.bundle.reading import Bundle

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
def server(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = tmp_path_factory.mktemp("keys") / "admin"
    keys.write_text("admin\n")
    flags = ("--max-body-bytes", str(LIMIT), "--admin-keys-file", str(keys))
    with running(tiny_bundle.location, *flags) as server:
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
    status = 200 if name == "text" else 422  # texts beside a good picture are passed over
    assert post(server, "/v1/embed", "image/png", data).status_code == status
    bare = post(server, "/v2/models/tiny_image/infer", "image/png", data, Inference_Header_Content_Length="0")
    assert bare.status_code == status
    assert peak(server) < before + GROWTH


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(("path", "kind"), ROUTES.items())
def test_packed_bodies(server: Server, path: str, kind: str, encoding: str) -> None:
    before, packed = peak(server), spaces(encoding)
    assert len(packed) < LIMIT
    assert post(server, path, kind, packed, Content_Encoding=encoding).status_code == 413
    assert peak(server) < before + GROWTH


def lists(items: str, name: str) -> bytes:
    return gzip.compress(f'{{"model": "tiny", "images": [""], "{name}": [{items}]}}'.encode(), 9)


def tiny() -> dict[str, tuple[str, bytes]]:
    """A few hundred bytes each, and as much as JSON may unpack to or more: elements that a model refuses one by one."""
    many = {
        "bad": "1," * 400_000 + "1",
        "some": "1," * 30_000 + "1",
        "empty": "[]," * 300_000 + "[]",
        "few": "{}," * 21_000 + "{}",
    }
    keys = gzip.compress(("{" + ",".join(f'"{number:05d}":1' for number in range(7000)) + "}").encode(), 9)
    places = {
        "/v1/embed": ["images", "fields"],
        "/v1/embeddings": ["input"],
        "/v2/models/tiny/infer": ["inputs", "outputs"],
        "/v2/models/tiny_image/infer": ["inputs"],
        "/v2/repository/models/tiny/load": ["parameters"],
    }
    attacks = {
        f"{path} {name} {kind}": (path, lists(items, name))
        for path, names in places.items()
        for name in names
        for kind, items in many.items()
    }
    return attacks | {f"{path} keys": (path, keys) for path in places}


def test_a_few_hundred_bytes_of_json_at_every_door(server: Server) -> None:
    before = peak(server)
    for name, (path, body) in tiny().items():
        admin = {"Authorization": "Bearer admin"}
        answer = post(server, path, "application/json", body, Content_Encoding="gzip", **admin)
        assert answer.status_code in (400, 413, 422), name
        assert len(answer.content) < 2400, name
    assert peak(server) < before + GROWTH
    query = "&".join(f"a{number}=1" for number in range(6000))
    for path in (f"/v1/embed?{query}", "/v1/embed?fields=" + "a," * 20_000):
        assert post(server, path, "image/png", b"").status_code == 422
    assert peak(server) < before + GROWTH


def test_json_that_is_not_packed_is_bounded_in_its_values(server: Server) -> None:
    """`[],` is three bytes, and an object of Python's of sixty."""
    before = peak(server)
    for path, name in (("/v1/embed", "images"), ("/v1/embeddings", "input")):
        body = b'{"model": "tiny", "%s": [%s[]]}' % (name.encode(), b"[]," * 1_600_000)
        assert post(server, path, "application/json", body).status_code == 413
    assert peak(server) < before + GROWTH


def test_one_long_text_among_many_numbers(server: Server) -> None:
    """As an array of texts each would take as much as the longest."""
    before = peak(server)
    data = '"' + "x" * 30_000 + '"' + ",1" * 10_000
    body = f'{{"inputs": [{{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [{data}]}}]}}'
    packed = gzip.compress(body.encode(), 9)
    assert len(packed) < 500
    answer = post(server, "/v2/models/tiny/infer", "application/json", packed, Content_Encoding="gzip")
    assert (answer.status_code, "whole numbers" in answer.json()["error"]) == (400, True)
    assert peak(server) < before + GROWTH


def test_a_message_of_many_tensors_over_grpc(tiny_bundle: Bundle) -> None:
    grpc = pytest.importorskip("grpc")
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    with running(tiny_bundle.location, "--grpc-port", "0") as server:
        target = server.line.partition("grpc://")[2].strip()
        with grpc.insecure_channel(target, compression=grpc.Compression.Gzip) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
            before = peak(server)
            shape = [1, 1] + [1] * 100_000
            one = {"name": "n" * 100, "datatype": "BYTES", "shape": [1]}
            for inputs in ([one] * 20_000, [one | {"shape": shape}], [one | {"name": "n" * 500_000}]):
                asked = service_pb2.ModelInferRequest(model_name="tiny", inputs=inputs)
                with pytest.raises(grpc.RpcError) as refused:
                    stub.ModelInfer(asked)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert len(refused.value.details().encode()) <= 2000
            # an answer of so many outputs would be a thousand times the request
            image = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
            asked = service_pb2.ModelInferRequest(
                model_name="tiny",
                inputs=[image],
                outputs=[{"name": "embedding"}] * 64,
                raw_input_contents=[bytes(3072)],
            )
            assert [output.name for output in stub.ModelInfer(asked).outputs] == ["embedding"]
            asked.outputs.extend(asked.outputs[0] for _ in range(20_000))
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(asked)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
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

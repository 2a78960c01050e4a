"""The Open Inference Protocol over HTTP: tritonclient, sync and asyncio, over TCP; and what no client would send."""

import asyncio
import base64
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.http")

import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tritonclient.utils import InferenceServerException

from tests.bad_files import bad_files
from tests.server.conftest import GatedEngine, Served, expected, over_tcp, png, serving
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings
from vssl.images.decoding import decode
from vssl_server.wire.errors import ApiError
from vssl_server.wire.tensors import Tensor, to_files

FILES = [png(shade) for shade in (10, 120, 250)]
NAMES = ("embedding", "variance", "uncertainty")


def decoded(bundle: Bundle, files: list[bytes]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack([decode(data, bundle.manifest.preprocessing) for data in files])


def tensor(array: np.ndarray[Any, Any], datatype: str, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput("image", list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def objects(files: list[bytes]) -> np.ndarray[Any, Any]:
    return np.array(files, np.object_)[:, None]


def check(result: Any, truth: Embeddings) -> None:
    for name in NAMES:
        wanted = getattr(truth, name)
        np.testing.assert_allclose(result.as_numpy(name), wanted.reshape(len(wanted), -1), rtol=1e-5, atol=1e-6)


@pytest.fixture
def client_of(address: tuple[str, int]) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{address[0]}:{address[1]}") as made:
        yield made


def test_what_the_server_and_its_models_say(client_of: triton.InferenceServerClient) -> None:
    assert client_of.is_server_live()
    assert client_of.is_server_ready()
    assert client_of.get_server_metadata()["extensions"] == ["binary_tensor_data", "model_configuration", "statistics"]
    for name, datatype, shape in (("tiny", "UINT8", [-1, 32, 32, 3]), ("tiny_image", "BYTES", [-1, 1])):
        for version in ("", "1"):
            assert client_of.is_model_ready(name, version)
            metadata = client_of.get_model_metadata(name, version)
            assert (metadata["name"], metadata["versions"]) == (name, ["1"])
            assert metadata["inputs"] == [{"name": "image", "datatype": datatype, "shape": shape}]
            shapes = {output["name"]: output["shape"] for output in metadata["outputs"]}
            assert shapes == {"embedding": [-1, 16], "variance": [-1, 16], "uncertainty": [-1, 1]}
            config = client_of.get_model_config(name, version)
            assert (config["name"], config["max_batch_size"]) == (name, 256)
            assert config["input"][0]["dims"] == shape[1:]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_pixels(
    client_of: triton.InferenceServerClient, tiny_bundle: Bundle, binary: bool, packed: str, binary_out: bool | None
) -> None:
    pixels = tensor(decoded(tiny_bundle, FILES), "UINT8", binary)
    outputs = None
    if binary_out is not None:
        outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in reversed(NAMES)]
    result = client_of.infer(
        "tiny", [pixels], outputs=outputs, request_id="seven", request_compression_algorithm=packed
    )
    check(result, expected(tiny_bundle, FILES))
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "1", "seven")
    assert answer["parameters"] == {"vssl_bundle": tiny_bundle.manifest.id}
    config = client_of.get_model_config("tiny")["parameters"]
    assert config["vssl_bundle"] == {"string_value": tiny_bundle.manifest.id}
    wanted = NAMES if binary_out is None else tuple(reversed(NAMES))
    assert tuple(output["name"] for output in answer["outputs"]) == wanted


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("flat", [True, False])
def test_image_files(
    client_of: triton.InferenceServerClient, tiny_bundle: Bundle, packed: str | None, flat: bool
) -> None:
    files = objects(FILES)[:, 0] if flat else objects(FILES)
    result = client_of.infer("tiny_image", [tensor(files, "BYTES")], "1", request_compression_algorithm=packed,
                             response_compression_algorithm=packed)  # fmt: skip
    check(result, expected(tiny_bundle, FILES))


def test_only_the_chosen_outputs_each_in_its_form(client_of: triton.InferenceServerClient, tiny_bundle: Bundle) -> None:
    outputs = [triton.InferRequestedOutput("uncertainty", binary_data=False), triton.InferRequestedOutput("embedding")]
    result = client_of.infer("tiny_image", [tensor(objects(FILES), "BYTES")], outputs=outputs)
    first, second = result.get_response()["outputs"]
    assert (first["name"], len(first["data"]), "parameters" in first) == ("uncertainty", 3, False)
    assert (second["name"], second["parameters"]) == ("embedding", {"binary_data_size": 3 * 16 * 4})
    np.testing.assert_allclose(result.as_numpy("embedding"), expected(tiny_bundle, FILES).embedding, atol=1e-6)


def test_many_at_once_with_asyncio(address: tuple[str, int], tiny_bundle: Bundle) -> None:
    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(f"{address[0]}:{address[1]}") as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("tiny_image")
            pixels = tensor(decoded(tiny_bundle, FILES), "UINT8")
            asked = [client.infer("tiny", [pixels])]
            asked += [client.infer("tiny_image", [tensor(objects(FILES), "BYTES")]) for _ in range(7)]
            return list(await asyncio.gather(*asked))

    for result in asyncio.run(ask()):
        check(result, expected(tiny_bundle, FILES))


def test_the_client_library_reports_our_messages(client_of: triton.InferenceServerClient, tiny_bundle: Bundle) -> None:
    for bad, reason in ((np.zeros((1, 8, 8, 3), np.uint8), "UINT8"), (np.zeros((1, 32, 32, 3), np.float32), "FP32")):
        with pytest.raises(InferenceServerException, match=r"image is .*, not UINT8 \[N, 32, 32, 3\]") as raised:
            client_of.infer("tiny", [tensor(bad, reason)])
        assert raised.value.status() == "400"
    with pytest.raises(InferenceServerException, match="no model 'other'; served here: tiny, tiny_image") as raised:
        client_of.get_model_metadata("other")
    assert raised.value.status() == "404"
    with pytest.raises(InferenceServerException, match="version 1, not 2"):
        client_of.infer("tiny", [tensor(decoded(tiny_bundle, FILES), "UINT8")], "2")
    with pytest.raises(InferenceServerException, match=r"1 of 2 images can't be embedded: image\[1\]: ") as raised:
        client_of.infer("tiny_image", [tensor(objects([FILES[0], bad_files()["text.jpg"]]), "BYTES")])
    assert raised.value.status() == "422"
    with pytest.raises(InferenceServerException, match="GET /v2/models/tiny/trace/setting: Not Found"):
        client_of.get_trace_settings("tiny")


def test_a_full_queue_a_late_answer_and_a_server_that_stops(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "v2", queue_images=3, max_images=3, deadline_seconds=0.2) as running,
        over_tcp(running.client.app) as address,
        triton.InferenceServerClient(f"{address[0]}:{address[1]}") as client,
    ):
        pixels = tensor(decoded(tiny_bundle, FILES), "UINT8")
        with running.model.batcher.admit(1), pytest.raises(InferenceServerException, match="busy") as raised:
            client.infer("v2", [pixels])
        assert raised.value.status() == "429"
        with pytest.raises(InferenceServerException, match=r"no answer within 0\.2 seconds") as raised:
            client.infer("v2", [pixels])
        assert raised.value.status() == "504"
        engine.let.release(100)
        with pytest.raises(InferenceServerException, match="4 images, over the limit of 3") as raised:
            client.infer("v2_image", [tensor(objects([*FILES, FILES[0]]), "BYTES")])
        assert raised.value.status() == "413"
        running.client.app.state.registry.draining = True  # type: ignore[attr-defined]
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready("v2")
        with pytest.raises(InferenceServerException, match="the server is draining") as raised:
            client.infer("v2", [pixels])
        assert raised.value.status() == "503"


def test_a_timeout_of_the_requests_own(tiny_bundle: Bundle) -> None:
    """In microseconds; the least of it, of the header's and of the server's counts, and 0 is none."""
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "hurry") as running,
        over_tcp(running.client.app) as address,
        triton.InferenceServerClient(f"{address[0]}:{address[1]}") as client,
    ):
        pixels = tensor(decoded(tiny_bundle, FILES), "UINT8")
        for timeout, header in ((50_000, {}), (60_000_000, {"VSSL-Timeout": "0.05"}), (50_000, {"VSSL-Timeout": "60"})):
            with pytest.raises(InferenceServerException, match=r"no answer within 0\.05 seconds") as raised:
                client.infer("hurry", [pixels], timeout=timeout, headers=header)
            assert raised.value.status() == "504"
        engine.let.release(100)
        for timeout in (0, 60_000_000, 10**18):
            asked = {"inputs": [IMAGE | {"data": [7] * 3072}], "parameters": {"timeout": timeout}}
            assert running.client.post("/v2/models/hurry/infer", json=asked).status_code == 200
        for wrong in (-1, "soon", 1.5, True, [1]):
            asked = {"inputs": [IMAGE | {"data": [7] * 3072}], "parameters": {"timeout": wrong}}
            assert "microseconds" in refused(running.client.post("/v2/models/hurry/infer", json=asked), 400)


def test_statistics_grow_with_the_requests(tiny_bundle: Bundle) -> None:
    with (
        serving(tiny_bundle, name="counted") as running,
        over_tcp(running.client.app) as address,
        triton.InferenceServerClient(f"{address[0]}:{address[1]}") as client,
    ):
        client.infer("counted", [tensor(decoded(tiny_bundle, FILES), "UINT8")])
        client.infer("counted_image", [tensor(objects(FILES), "BYTES")])
        with pytest.raises(InferenceServerException):
            client.infer("counted_image", [tensor(objects([b"x"]), "BYTES")])
        [stats] = client.get_inference_statistics("counted")["model_stats"]
    assert (stats["name"], stats["version"]) == ("counted", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (6, 2)
    times = stats["inference_stats"]
    assert [times[name]["count"] for name in ("success", "fail", "queue", "compute_infer")] == [2, 1, 2, 2]
    parts = sum(times[name]["ns"] for name in ("queue", "compute_input", "compute_infer"))
    assert 0 < parts <= times["success"]["ns"] + 10


def test_the_statistics_of_all(client: TestClient) -> None:
    found = client.get("/v2/models/stats").json()["model_stats"]
    assert [(stats["name"], stats["version"]) for stats in found] == [("tiny", "1"), ("tiny_image", "1")]


@pytest.mark.parametrize("path", ["systemsharedmemory/status", "cudasharedmemory/region/r/register"])
def test_shared_memory_is_told_to_be_absent(client: TestClient, path: str) -> None:
    for answer in (client.get(f"/v2/{path}"), client.post(f"/v2/{path}", json={})):
        assert "shared memory is not supported" in refused(answer, 404)


def test_elements_beyond_the_shape_are_not_made() -> None:
    """Four bytes of zeros are an element, and compress to nothing."""
    zeros = bytes(2**22)
    for shape, data in (([1, 1], zeros), ([3], zeros), ([2, 1], [[]] * 2**19 + [[b"", b"", b""]])):
        tracemalloc.start()
        try:
            with pytest.raises(ApiError, match="asks for another number"):
                to_files(Tensor("image", "BYTES", shape, data))
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()


def test_a_shape_of_too_many_images_is_refused_before_they_are_read(client: TestClient) -> None:
    for name, shape, datatype in (("tiny", [257, 32, 32, 3], "UINT8"), ("tiny_image", [10**9, 1], "BYTES")):
        image = {"name": "image", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": 2**20}}
        head = json.dumps({"inputs": [image]}).encode()
        body = gzip.compress(head + bytes(2**20))
        answer = post(client, body, name, Inference_Header_Content_Length=str(len(head)), Content_Encoding="gzip")
        assert "over the limit of 256" in refused(answer, 413)


def test_more_values_than_any_request_has(client: TestClient) -> None:
    body = b'{"inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [' + b"[]," * 2**16 + b"[]]}]}"
    assert "values" in refused(post(client, body, "tiny_image"), 413)


def post(client: TestClient, body: bytes, name: str = "tiny", **headers: str) -> Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return client.post(f"/v2/models/{name}/infer", content=body, headers=named)


def outputs_of(answer: Response) -> dict[str, np.ndarray[Any, Any]]:
    length = int(answer.headers["inference-header-content-length"])
    found, start = {}, length
    for output in json.loads(answer.content[:length])["outputs"]:
        stop = start + output["parameters"]["binary_data_size"]
        found[output["name"]] = np.frombuffer(answer.content[start:stop], "<f4").reshape(output["shape"])
        start = stop
    assert start == len(answer.content)
    return found


def test_a_bare_image_file(client: TestClient, tiny_bundle: Bundle) -> None:
    answer = post(client, FILES[0], "tiny_image", Inference_Header_Content_Length="0", Content_Type="image/png")
    assert answer.status_code == 200, answer.text
    truth = expected(tiny_bundle, FILES[:1])
    found = outputs_of(answer)
    np.testing.assert_array_equal(found["embedding"], truth.embedding)
    np.testing.assert_array_equal(found["uncertainty"], truth.uncertainty[:, None])
    pixels = decoded(tiny_bundle, FILES[:1]).tobytes()
    again = outputs_of(post(client, pixels, Inference_Header_Content_Length="0"))
    np.testing.assert_array_equal(again["embedding"], truth.embedding)


def test_base64_in_json(client: TestClient, tiny_bundle: Bundle) -> None:
    texts = [base64.b64encode(FILES[0]).decode(), "data:image/png;base64," + base64.b64encode(FILES[1]).decode()]
    asked = {"inputs": [{"name": "image", "shape": [2, 1], "datatype": "BYTES", "data": texts}]}
    answer = client.post("/v2/models/tiny_image/infer", json=asked)
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    np.testing.assert_allclose(
        outputs["embedding"], expected(tiny_bundle, FILES[:2]).embedding.ravel(), rtol=1e-5, atol=1e-6
    )
    assert "id" not in answer.json()


def refused(answer: Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert isinstance(answer.json()["error"], str)
    return str(answer.json()["error"])


IMAGE = {"name": "image", "shape": [1, 32, 32, 3], "datatype": "UINT8"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ([], "a JSON object"),
        ({}, "inputs: "),
        ({"inputs": []}, "has one input, image; the request has none"),
        ({"inputs": [IMAGE | {"data": []}] * 2}, "one input"),
        ({"inputs": [IMAGE | {"name": "pixels", "data": []}]}, "the request has pixels"),
        ({"inputs": [IMAGE]}, "neither data nor binary_data_size"),
        ({"inputs": [IMAGE] * 65}, "inputs: 65 elements; 64 are the most"),
        ({"inputs": [IMAGE | {"shape": [1] * 65}]}, "shape: 65 elements"),
        ({"inputs": [IMAGE | {"shape": "1"}]}, "inputs.0.shape: "),
        ({"inputs": [IMAGE | {"shape": [-1, 32, 32, 3], "data": []}]}, "inputs.0.shape.0: "),
        ({"inputs": [IMAGE | {"data": [1, 2]}]}, "has 2 values"),
        ({"inputs": [IMAGE | {"data": [[1], [1, 2]]}]}, "not of one shape"),
        ({"inputs": [IMAGE | {"data": [256] * 3072}]}, "whole numbers from 0 to 255"),
        ({"inputs": [IMAGE | {"data": [-1] * 3072}]}, "whole numbers"),
        ({"inputs": [IMAGE | {"data": [0.5] * 3072}]}, "whole numbers"),
        ({"inputs": [IMAGE | {"data": ["a"] * 3072}]}, "whole numbers"),
        ({"inputs": [IMAGE | {"data": [2**70] * 3072}]}, "whole numbers"),
        ({"inputs": [IMAGE | {"parameters": {"binary_data_size": 5}}]}, "binary_data_size is 5, 0 bytes are left"),
        ({"inputs": [IMAGE | {"parameters": {"binary_data_size": -1}}]}, "binary_data_size is -1"),
        ({"inputs": [IMAGE | {"parameters": {"binary_data_size": "1"}}]}, "binary_data_size is 1"),
        ({"inputs": [IMAGE | {"data": []}], "outputs": [{"name": "logits"}]}, "no output 'logits'"),
        ({"inputs": [IMAGE | {"parameters": {"shared_memory_region": "r"}}]}, "image: shared memory is not supported"),
        (
            {"inputs": [IMAGE], "outputs": [{"name": "variance", "parameters": {"shared_memory_region": "r"}}]},
            "variance: shared memory is not supported",
        ),
        (
            {"inputs": [IMAGE], "outputs": [{"name": "variance", "parameters": {"classification": 1}}]},
            "variance: classification is not supported",
        ),
    ],
)
def test_requests_that_are_not_the_protocol(client: TestClient, asked: Any, why: str) -> None:
    assert why in refused(client.post("/v2/models/tiny/infer", json=asked), 400)


def test_bodies_that_lie_about_their_parts(client: TestClient) -> None:
    head = json.dumps({"inputs": [IMAGE | {"parameters": {"binary_data_size": 3072}}]}).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    assert post(client, head + b"\1" * 3072, **length).status_code == 200
    assert "3,071 bytes are left" in refused(post(client, head + b"\1" * 3071, **length), 400)
    assert "belong to none" in refused(post(client, head + b"\1" * 3073, **length), 400)
    for wrong in ("-1", "x", "9" * 30, "1e3"):
        refused(post(client, head, Inference_Header_Content_Length=wrong), 400)
    refused(post(client, b"\xff{", Inference_Header_Content_Length="2"), 400)
    assert "1 values" in refused(post(client, b"x", Inference_Header_Content_Length="0"), 400)
    assert "0 bytes" in refused(post(client, b"", "tiny_image", Inference_Header_Content_Length="0"), 422)


@pytest.mark.parametrize("data", [b"\1", b"\5\0\0\0abcd", b"\1\0\0\0aX", b"\xff\xff\xff\xff"])
def test_elements_that_end_inside(client: TestClient, data: bytes) -> None:
    image = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [image]}).encode()
    answer = post(client, head + data, "tiny_image", Inference_Header_Content_Length=str(len(head)))
    assert "end inside element" in refused(answer, 400)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 250)), st.sampled_from(["tiny", "tiny_image"]))
def test_no_body_at_all_breaks_the_server(client: TestClient, body: bytes, length: int | None, name: str) -> None:
    headers = {} if length is None else {"Inference_Header_Content_Length": str(length)}
    answer = post(client, body, name, **headers)
    assert answer.status_code in (400, 422)
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/", 404),
        ("POST", "/v2", 405),
        ("GET", "/v2/models/tiny/infer", 405),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/tiny/versions/2/stats", 404),
        ("POST", "/v2/repository/index", 403),
    ],
)
def test_errors_of_every_route_are_texts(client: TestClient, method: str, path: str, status: int) -> None:
    refused(client.request(method, path), status)


@pytest.mark.parametrize(("kind", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_body_is_bounded_when_it_is_unpacked(tiny_bundle: Bundle, kind: str, pack: Any) -> None:
    with serving(tiny_bundle, name="packed", max_body_bytes=10_000) as running:
        bomb = pack(b"\0" * 5_000_000)
        assert len(bomb) < 10_000
        assert "10,000 bytes" in refused(post(running.client, bomb, "packed", Content_Encoding=kind), 413)
        assert "10,000 bytes" in refused(post(running.client, b"x" * 10_001, "packed", Content_Encoding=kind), 413)
        whole = pack(b"\1" * 3072)
        raw = {"Inference_Header_Content_Length": "0", "Content_Encoding": kind}
        assert post(running.client, whole, "packed", **raw).status_code == 200
        for broken in (whole[:-1], whole + b"x", b"nonsense", b""):
            assert kind in refused(post(running.client, broken, "packed", **raw), 400)


@pytest.mark.parametrize("form", ["json", "head"])
def test_json_that_unpacks_to_a_lot_is_refused_and_tensors_are_not(client: TestClient, form: str) -> None:
    parameters = {"padding": " " * 100_000 if form == "json" else ""}
    pixels = {"inputs": [IMAGE | {"shape": [100, 32, 32, 3], "parameters": {"binary_data_size": 307_200}}]}
    head = json.dumps(pixels | {"parameters": parameters}).encode()
    packed = gzip.compress(head + bytes(307_200))
    assert 20 * len(packed) < 100_000
    named = {"Content_Encoding": "gzip", "Inference_Header_Content_Length": str(len(head))}
    answer = post(client, packed, **named)
    if form == "head":
        assert [output["shape"][0] for output in answer.json()["outputs"]] == [100] * 3
    else:
        assert "20 times" in refused(answer, 413)
        assert "20 times" in refused(post(client, packed, Content_Encoding="gzip"), 413)


def test_null_is_absent_and_a_byte_order_mark_is_none_of_the_json(client: TestClient, tiny_bundle: Bundle) -> None:
    data = decoded(tiny_bundle, FILES[:1]).ravel().tolist()
    image = {**IMAGE, "data": data, "parameters": {"binary_data_size": None}}
    outputs = [{"name": "embedding", "parameters": {"binary_data": None}}, {"name": "variance", "parameters": None}]
    asked = {"inputs": [image], "outputs": outputs, "id": None, "parameters": {"binary_data_output": True}}
    answer = post(client, b"\xef\xbb\xbf" + json.dumps(asked).encode())
    assert {name: array.shape for name, array in outputs_of(answer).items()} == {
        "embedding": (1, 16),
        "variance": (1, 16),
    }
    plain = client.post("/v2/models/tiny/infer", json=asked | {"outputs": None, "parameters": None}).json()
    assert ("id" in plain, len(plain["outputs"])) == (False, 3)


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1.0", "\u00b2", ""])
def test_a_length_of_the_head_that_is_no_number(client: TestClient, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length.encode("latin-1")}
    answer = client.post("/v2/models/tiny/infer", content=b"{}", headers=headers)  # type: ignore[arg-type]
    assert "not a number of bytes" in refused(answer, 400)


def test_other_compressions_are_refused(client: TestClient) -> None:
    assert "br" in refused(post(client, b"x", Content_Encoding="br"), 415)


def test_a_failure_of_the_server_itself_is_a_text_too(served: Served) -> None:
    def broken() -> None:
        raise RuntimeError("a secret")

    served.client.app.add_api_route("/v2/broken", broken)  # type: ignore[attr-defined]
    assert "secret" not in refused(served.client.get("/v2/broken"), 500)

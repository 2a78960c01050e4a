"""`POST /v1/embed`: every form of request and of answer gives the engine's own numbers."""

import base64
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from tests.bad_files import REASONS, bad_files
from tests.server.conftest import Served, expected, png
from vssl.bundle.reading import Bundle
from vssl.images.decoding import decode
from vssl_server.decoding.request import IN_PLACE
from vssl_server.http.embed.writers import ARROW, JSON, NPZ
from vssl_server.wire.images import from_base64
from vssl_server.wire.tensors import NPY

FILES = [png(shade) for shade in (10, 120, 250)]
ALL = ["embedding", "variance", "uncertainty", "percentile", "confidence", "familiarity", "flags"]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def parts(files: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{index}.png", data)) for index, data in enumerate(files)]


def check(body: dict[str, Any], bundle: Bundle, files: list[bytes], names: list[str | None]) -> None:
    """The answer has its whole shape, and the engine's numbers but for rounding, which may depend on the batch."""
    assert list(body) == ["model", "version", "bundle_id", "data"]
    assert (body["model"], body["version"], body["bundle_id"]) == ("tiny", "1", bundle.manifest.id)
    truth = expected(bundle, files)
    assert [item["name"] for item in body["data"]] == names
    for index, item in enumerate(body["data"]):
        assert list(item) == ["index", "name", *ALL]
        assert item["index"] == index
        for name in ("embedding", "variance", "uncertainty"):
            np.testing.assert_allclose(item[name], getattr(truth, name)[index], rtol=1e-5, atol=1e-6)
        assert (item["percentile"], item["confidence"], item["flags"]) == (None, None, None)


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg; charset=binary", "application/octet-stream", "IMAGE/PNG"])
def test_one_image_as_it_is(client: TestClient, tiny_bundle: Bundle, kind: str) -> None:
    answer = client.post("/v1/embed", content=FILES[0], headers={"Content-Type": kind})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    check(answer.json(), tiny_bundle, FILES[:1], [None])


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def send_pixels(client: TestClient, body: bytes) -> Any:
    return client.post("/v1/embed", content=body, headers={"Content-Type": NPY})


def test_pixels_as_numpy_saves_them(client: TestClient, tiny_bundle: Bundle) -> None:
    body = saved(np.stack([decode(file, tiny_bundle.manifest.preprocessing) for file in FILES]))
    check(send_pixels(client, body).json(), tiny_bundle, FILES, [None] * 3)
    packed = {"Content-Type": NPY, "Content-Encoding": "gzip"}
    answer = client.post("/v1/embed", content=gzip.compress(body), headers=packed)
    check(answer.json(), tiny_bundle, FILES, [None] * 3)


@pytest.mark.parametrize(
    ("array", "status", "code"),
    [
        (np.zeros((1, 31, 32, 3), np.uint8), 422, "invalid_pixels"),
        (np.zeros((32, 32, 3), np.uint8), 422, "invalid_pixels"),
        (np.zeros((1, 32, 32, 3), np.int8), 422, "invalid_pixels"),
        (np.zeros((1, 32, 32, 3), np.float32), 422, "invalid_pixels"),
        (np.zeros((2, 32, 32, 3), np.uint8, order="F"), 422, "invalid_pixels"),
        (np.array([{}]), 422, "invalid_pixels"),
        (np.zeros((0, 32, 32, 3), np.uint8), 422, "no_images"),
        (np.zeros((257, 32, 32, 3), np.uint8), 413, "too_many_images"),
    ],
)
def test_other_arrays_are_refused(client: TestClient, array: Any, status: int, code: str) -> None:
    answer = send_pixels(client, saved(array))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@given(place=st.integers(0, 129), value=st.integers(0, 255), length=st.integers(-130, 3))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_pixels_are_refused_or_pixels(client: TestClient, place: int, value: int, length: int) -> None:
    body = bytearray(saved(np.zeros((1, 32, 32, 3), np.uint8)))
    body[place] = value
    answer = send_pixels(client, bytes(body[:length]) if length < 0 else bytes(body) + bytes(length))
    assert answer.status_code in (200, 413, 422)
    assert answer.status_code != 200 or not length


def test_a_small_file_of_many_pixels(client: TestClient, tiny_bundle: Bundle) -> None:
    file = io.BytesIO()
    Image.new("RGB", (1000, 900), (200, 100, 0)).save(file, "PNG")
    assert len(file.getvalue()) < IN_PLACE.max_bytes
    answer = client.post("/v1/embed", content=file.getvalue(), headers={"Content-Type": "image/png"})
    check(answer.json(), tiny_bundle, [file.getvalue()], [None])


def test_multipart_with_several_parts(client: TestClient, tiny_bundle: Bundle) -> None:
    answer = client.post("/v1/embed", files=parts(FILES))
    assert answer.status_code == 200
    check(answer.json(), tiny_bundle, FILES, ["0.png", "1.png", "2.png"])


def test_json_with_objects_data_uris_and_bare_strings(client: TestClient, tiny_bundle: Bundle) -> None:
    images = [
        {"name": "a", "data": text(FILES[0])},
        f"data:image/png;base64,{text(FILES[1])}",
        {"data": text(FILES[2]), "name": None},
        text(FILES[0]),
    ]
    answer = client.post("/v1/embed", json={"images": images})
    assert answer.status_code == 200
    check(answer.json(), tiny_bundle, [*FILES, FILES[0]], ["a", None, None, None])


def test_a_body_in_chunks_without_a_length(client: TestClient, tiny_bundle: Bundle) -> None:
    chunks = (FILES[0][start : start + 10] for start in range(0, len(FILES[0]), 10))
    answer = client.post("/v1/embed", content=chunks, headers={"Content-Type": "image/png"})
    check(answer.json(), tiny_bundle, FILES[:1], [None])


def in_members(data: bytes) -> bytes:
    return gzip.compress(data[:100]) + gzip.compress(b"") + gzip.compress(data[100:])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        *(("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", in_members), ("x-gzip", gzip.compress)),
        *(("gzip, identity", gzip.compress), ("identity", bytes), ("identity,deflate", zlib.compress)),
    ],
)
def test_packed_bodies(client: TestClient, tiny_bundle: Bundle, encoding: str, pack: Any) -> None:
    asked = [
        client.build_request("POST", "/v1/embed", content=FILES[0], headers={"Content-Type": "image/png"}),
        client.build_request("POST", "/v1/embed", files=parts(FILES)),
        client.build_request("POST", "/v1/embed", json={"images": [text(data) for data in FILES]}),
        client.build_request("POST", "/v1/embeddings", json={"model": "tiny", "input": text(FILES[0])}),
    ]
    for request in asked:
        headers = {"Content-Type": request.headers["content-type"], "Content-Encoding": encoding}
        answer = client.post(request.url, content=pack(request.read()), headers=headers)
        assert answer.status_code == 200, answer.text
        found = np.array([item["embedding"] for item in answer.json()["data"]])
        truth = expected(tiny_bundle, FILES[: len(found)]).embedding
        np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)


def test_a_hundred_images_keep_their_order(client: TestClient, tiny_bundle: Bundle) -> None:
    files = [png(shade) for shade in range(1, 101)]
    answer = client.post("/v1/embed", files=parts(files))
    assert answer.status_code == 200
    check(answer.json(), tiny_bundle, files, [f"{index}.png" for index in range(100)])


def test_real_photographs_from_files(client: TestClient, tiny_bundle: Bundle, fashion_folder: Path) -> None:
    files = [path.read_bytes() for path in sorted(fashion_folder.rglob("*.png"))]
    assert len(files) == 40
    check(
        client.post("/v1/embed", files=parts(files)).json(), tiny_bundle, files, [f"{index}.png" for index in range(40)]
    )


@pytest.mark.parametrize(("encoding", "kind"), [("base64", "<f4"), ("float16", "<f2")])
@pytest.mark.parametrize("in_query", [True, False])
def test_vectors_in_base64(client: TestClient, tiny_bundle: Bundle, encoding: str, kind: str, in_query: bool) -> None:
    truth = expected(tiny_bundle, FILES)
    if in_query:
        answer = client.post(f"/v1/embed?encoding={encoding}", files=parts(FILES))
    else:
        answer = client.post("/v1/embed", json={"images": [text(data) for data in FILES], "encoding": encoding})
    for name in ("embedding", "variance"):
        rows = [np.frombuffer(base64.b64decode(item[name]), kind) for item in answer.json()["data"]]
        np.testing.assert_array_equal(np.stack(rows), getattr(truth, name).astype(kind))
    assert [np.float32(item["uncertainty"]) for item in answer.json()["data"]] == list(truth.uncertainty)


@pytest.mark.parametrize("query", ["fields=uncertainty,flags", "fields=uncertainty&fields=flags"])
def test_only_the_chosen_fields(client: TestClient, query: str) -> None:
    answer = client.post(f"/v1/embed?{query}", files=parts(FILES))
    assert [list(item) for item in answer.json()["data"]] == [["index", "name", "uncertainty", "flags"]] * 3


def test_options_in_the_body_win_over_the_query(client: TestClient) -> None:
    answer = client.post(
        "/v1/embed?fields=variance&encoding=base64", json={"images": [text(FILES[0])], "fields": ["embedding"]}
    )
    assert isinstance(answer.json()["data"][0]["embedding"], str)
    assert "variance" not in answer.json()["data"][0]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.integers(0, 2), st.sampled_from(sorted(REASONS))), min_size=1, max_size=12))
def test_partial_results_put_each_error_in_its_place(client: TestClient, wanted: list[int | str]) -> None:
    bad = bad_files()
    files = [FILES[choice] if isinstance(choice, int) else bad[choice] for choice in wanted]
    alone = [client.post("/v1/embed", files=parts([data])).json()["data"][0]["embedding"] for data in FILES]
    answer = client.post("/v1/embed?on_error=return", files=parts(files))
    assert answer.status_code == 200
    for index, (choice, item) in enumerate(zip(wanted, answer.json()["data"], strict=True)):
        assert (item["index"], item["name"]) == (index, f"{index}.png")
        if isinstance(choice, str):
            assert list(item) == ["index", "name", "error"]
            assert item["error"]["type"] == REASONS[choice]
            assert item["error"]["message"]
        else:
            np.testing.assert_allclose(item["embedding"], alone[choice], atol=1e-6)


def test_bad_base64_is_an_error_of_its_image_alone(client: TestClient) -> None:
    broken = [
        "*",
        "data:image/png,abc",
        "data:text",
        "é",
        "AA=A",
        "no base64",
        "A",
        "http://127.0.0.1/a.png",
        "file:///etc/passwd",
    ]
    answer = client.post("/v1/embed", json={"images": [text(FILES[0]), *broken], "on_error": "return"})
    kinds = [item.get("error", {}).get("type") for item in answer.json()["data"]]
    assert kinds == [None] + ["invalid_base64"] * len(broken)
    for item in answer.json()["data"][-2:]:
        assert "addresses are never opened" in item["error"]["message"]


@given(data=st.binary(max_size=200), head=st.sampled_from(["", "data:image/png;base64,", "DATA:;BASE64,"]))
@example(data=bytes(range(256)), head="")
def test_base64_in_each_form_that_clients_write(data: bytes, head: str) -> None:
    plain, safe = text(data), base64.urlsafe_b64encode(data).decode()
    forms = [plain, safe, plain.rstrip("="), safe.rstrip("="), base64.encodebytes(data).decode(), f" {plain}\r\n"]
    forms += ["\n".join(f"    {plain[at : at + 76]}" for at in range(0, len(plain), 76))]
    forms += [quote(plain)] if head else []
    assert [from_base64(head + form) for form in forms] == [data] * len(forms)


def test_null_is_absent_and_a_byte_order_mark_is_none_of_the_json(client: TestClient) -> None:
    asked = {"images": [{"name": None, "data": text(FILES[0])}], "fields": None, "encoding": None, "on_error": None}
    body = b"\xef\xbb\xbf" + json.dumps(asked | {"model": None, "colour": None}).encode()
    answer = client.post("/v1/embed", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert list(answer.json()["data"][0]) == ["index", "name", *ALL]


@pytest.mark.parametrize(("encoding", "kind"), [("float", np.float32), ("float16", np.float16)])
def test_npz(client: TestClient, tiny_bundle: Bundle, encoding: str, kind: type) -> None:
    files = [FILES[0], b"no image", FILES[1]]
    answer = client.post(f"/v1/embed?on_error=return&encoding={encoding}", files=parts(files), headers={"Accept": NPZ})
    assert (answer.status_code, answer.headers["content-type"]) == (200, NPZ)
    arrays = np.load(io.BytesIO(answer.content))
    truth = expected(tiny_bundle, [FILES[0], FILES[1]])
    for name in ("embedding", "variance", "uncertainty"):
        values = getattr(truth, name).astype(np.float32 if name == "uncertainty" else kind)
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name][[0, 2]], values)
        assert np.isnan(arrays[name][1]).all()
    origin = tuple(str(arrays[name]) for name in ("model", "version", "bundle_id"))
    assert origin == ("tiny", "1", tiny_bundle.manifest.id)
    assert list(arrays["name"]) == ["0.png", "1.png", "2.png"]
    assert list(arrays["error_type"]) == ["", "not_an_image", ""]
    assert list(map(bool, arrays["error_message"])) == [False, True, False]


@pytest.mark.parametrize(("encoding", "kind"), [("float", np.float32), ("float16", np.float16)])
def test_npy(client: TestClient, tiny_bundle: Bundle, encoding: str, kind: type) -> None:
    """The embeddings whatever fields are named."""
    query = f"/v1/embed?on_error=return&fields=variance&encoding={encoding}"
    answer = client.post(query, files=parts([FILES[0], b"no image", FILES[1]]), headers={"Accept": NPY})
    assert (answer.status_code, answer.headers["content-type"]) == (200, NPY)
    array = np.load(io.BytesIO(answer.content))
    assert array.dtype == kind
    np.testing.assert_array_equal(array[[0, 2]], expected(tiny_bundle, FILES[:2]).embedding.astype(kind))
    assert np.isnan(array[1]).all()


def test_arrow_stream(client: TestClient, tiny_bundle: Bundle) -> None:
    files = [FILES[0], b"no image", FILES[1]]
    answer = client.post(
        "/v1/embed?on_error=return&fields=embedding,uncertainty", files=parts(files), headers={"Accept": ARROW}
    )
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column_names == ["name", "error_type", "error_message", "embedding", "uncertainty"]
    bundle_id = tiny_bundle.manifest.id.encode()
    assert table.schema.metadata == {b"model": b"tiny", b"version": b"1", b"bundle_id": bundle_id}
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    truth = expected(tiny_bundle, [FILES[0], FILES[1]])
    rows = table["embedding"].to_pylist()
    assert rows[1] is None
    np.testing.assert_array_equal([rows[0], rows[2]], truth.embedding)
    assert table["uncertainty"].to_pylist() == [truth.uncertainty[0], None, truth.uncertainty[1]]
    assert table["error_type"].to_pylist() == [None, "not_an_image", None]


def test_all_images_bad_is_still_a_whole_answer(client: TestClient) -> None:
    for accept in (JSON, NPZ, NPY, ARROW):
        answer = client.post("/v1/embed?on_error=return", files=parts([b"x", b"y"]), headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, accept)
    assert np.load(
        io.BytesIO(client.post("/v1/embed?on_error=return", files=parts([b"x"]), headers={"Accept": NPZ}).content)
    )["embedding"].shape == (1, 16)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", JSON),
        ("application/*", JSON),
        (f"{NPZ};q=0.5, {JSON};q=0.9", JSON),
        (f"text/html, {NPZ}, */*;q=0.1", NPZ),
        ("", JSON),
        (f"{JSON};q=0, */*", NPZ),
        (f"*/*, {JSON};q=0, {NPZ};q=0.0", NPY),
        (f"application/*;q=0.5, {NPY};q=0.4, */*;q=0", JSON),
        (f"application/*;q=0.5, {ARROW};Q=0.6", ARROW),
        (f"{NPZ}, {JSON}", NPZ),
        (f"*/*, {NPY}", NPY),
        (f"{NPZ};q=nan, {NPY};q=2, {ARROW};q=0.0001, {JSON};q=0.001", JSON),
        ("application/json, text/plain, */*", JSON),
    ],
)
def test_accept_chooses_the_form_of_the_answer(client: TestClient, accept: str, kind: str) -> None:
    answer = client.post("/v1/embed", files=parts(FILES), headers={"Accept": accept})
    assert answer.headers["content-type"] == kind


def test_the_parts_of_the_time_add_up(client: TestClient) -> None:
    header = client.post("/v1/embed", files=parts(FILES)).headers["server-timing"]
    spent = {part.split(";dur=")[0].strip(): float(part.split(";dur=")[1]) for part in header.split(",")}
    assert set(spent) == {"total", "receive", "queue", "inference"}
    assert spent["inference"] > 0
    assert spent["total"] >= spent["receive"] + spent["queue"] + spent["inference"]


def test_models_say_what_a_client_needs(served: Served, tiny_bundle: Bundle) -> None:
    body = served.client.get("/v1/models").json()
    assert body["object"] == "list"
    [card] = body["data"]
    assert (card["id"], card["object"], card["owned_by"], card["created"]) == ("tiny", "model", "vssl", 1767225600)
    assert card["bundle_id"] == tiny_bundle.manifest.id
    assert (card["version"], card["dimension"], card["image_size"]) == ("1", 16, 32)
    assert card["preprocessing"] == {"size": 32, "crop": 1.0, "interpolation": "bicubic"}
    assert (card["max_images"], card["max_body_bytes"], card["max_pending_bytes"]) == (256, 64 * 2**20, 2**30)
    assert card["max_request_pixels"] == 256_000_000
    assert served.client.get("/v1/models/tiny").json() == card
    missing = served.client.get("/v1/models/clip")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_openapi_describes_every_route_and_its_examples_work(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    inference = {path for path in document["paths"] if path.startswith("/v2")}
    assert len(inference) == 14
    assert set(document["paths"]) - inference == {
        *("/v1/embed", "/v1/embeddings", "/v1/models", "/v1/models/{name}"),
        *("/healthz", "/readyz", "/health", "/ping", "/metrics"),
    }
    operation = document["paths"]["/v1/embed"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {"fields", "encoding", "on_error", "model"}
    assert {int(status) for status in operation["responses"]} == {
        *(200, 400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504),
    }
    content = operation["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data", "image/*", "application/octet-stream", NPY}
    assert set(content) == set(client.get("/v1/models/tiny").json()["accepts"])
    assert all(form["examples"] for form in content.values())
    answers = operation["responses"]["200"]["content"]
    assert set(answers) == {JSON, NPZ, NPY, ARROW}
    shown = answers[JSON]["example"]
    bad = client.post("/v1/embed?on_error=return", files=parts([FILES[0], b"text"])).json()
    assert [list(item) for item in shown["data"]] == [list(item) for item in bad["data"]]
    assert (list(shown), shown["data"][1]["error"]) == (list(bad), bad["data"][1]["error"])


def test_the_examples_of_every_body_in_the_document_work(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    bodies = {path: of["post"]["requestBody"]["content"].get(JSON) for path, of in paths.items() if "post" in of}
    assert len(bodies) == 4
    for path, body in bodies.items():
        for shown in body["examples"].values():
            place = path.replace("{name}", "tiny_image").replace("{version}", "1")
            asked = json.loads(json.dumps(shown["value"]).replace('"NAME"', '"tiny"'))
            assert client.post(place, json=asked).status_code == 200, (path, asked)

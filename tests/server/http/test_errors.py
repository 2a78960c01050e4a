"""Every error has OpenAI's shape, and says what was wrong with which image."""

import base64
import gzip
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.bad_files import REASONS, bad_files
from tests.server.conftest import Served, png, serving
from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine

GOOD = png(7)


@pytest.fixture(scope="module")
def small(tiny_bundle: Bundle) -> Iterator[Served]:
    """Limits that a test can reach."""
    with serving(tiny_bundle, name="small", max_body_bytes=2000, max_images=3, max_pixels=10_000) as running:
        yield running


def error(answer: Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["code"] == code
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert body["error"]["type"] == ("rate_limit_error" if status == 429 else kind)
    assert body["error"]["message"]
    return dict(body["error"])


@pytest.mark.parametrize("name", sorted(REASONS))
def test_each_bad_file_is_refused_by_name_and_reason(client: TestClient, name: str) -> None:
    data = bad_files()[name]
    files = [("images", ("good.png", GOOD)), ("images", (name, data))]
    failed = error(client.post("/v1/embed", files=files), 422, "invalid_image")
    assert failed["param"] == "images[1]"
    assert f"1 of 2 images can't be embedded: images[1] ({name}): " in failed["message"]
    assert "good.png" not in failed["message"]
    raw = error(client.post("/v1/embed", content=data, headers={"Content-Type": "image/jpeg"}), 422, "invalid_image")
    assert raw["message"].startswith("1 of 1 images can't be embedded: images[0]: ")


def test_the_first_five_bad_images_of_a_request_are_named_and_all_are_counted(client: TestClient) -> None:
    bad = list(bad_files().items()) * 2
    names = [name + "n" * (1000 if long else 0) for long in (False, True) for name, _ in bad]
    files = [("images", (name, data)) for name, (_, data) in zip(names, bad * 2, strict=True)]
    message = error(client.post("/v1/embed", files=files), 422, "invalid_image")["message"]
    assert message.startswith(f"{len(files)} of {len(files)} images can't be embedded: ")
    for index, name in enumerate(names):
        assert (f"images[{index}] ({name}): " in message) == (index < 5)
    assert message.endswith(f"; and {len(files) - 5} more")
    longest = error(client.post("/v1/embed", files=files[len(bad) :]), 422, "invalid_image")["message"]
    assert longest.count("nnn…") == 5
    assert len(longest.encode()) <= 2000


@pytest.mark.parametrize(
    "path",
    [
        "/v1/" + "a" * 9000,
        "/v2/models/" + "%C3%A4" * 3000,
        "/v1/embed?" + "a" * 9000 + "=1",
        "/v1/models/" + "a" * 9000,
    ],
)
def test_an_error_says_little_whatever_the_request_is_like(client: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, path, content=b"{}", headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 2400
    huge = "ä" * 100_000
    asked: list[tuple[str, object]] = [
        ("/v1/embed", {huge: 1, "images": [""]}),
        ("/v1/embed", {"images": [""], "model": huge}),
        ("/v1/embed", {"images": [{huge: 1}]}),
        ("/v1/embeddings", {"model": huge, "input": ""}),
        ("/v1/embeddings", {huge: [1] * 100}),
        ("/v2/models/tiny/infer", {"inputs": [], "outputs": [{"name": huge}]}),
        ("/v2/models/tiny/infer", {"inputs": [{"name": huge, "shape": [1] * 64, "datatype": huge, "data": []}] * 64}),
    ]
    for place, body in asked:
        answer = client.post(place, json=body)
        assert answer.status_code in (400, 404, 422)
        assert len(answer.content) < 2400


def test_bad_base64_is_named_too(client: TestClient) -> None:
    images = [base64.b64encode(GOOD).decode(), {"name": "b", "data": "!!"}]
    failed = error(client.post("/v1/embed", json={"images": images}), 422, "invalid_image")
    assert "images[1] (b): the data are not base64" in failed["message"]


def test_pixels_over_the_limit(small: Served) -> None:
    wide = png(3, width=101, height=100)
    answer = small.client.post("/v1/embed", content=wide, headers={"Content-Type": "image/png"})
    assert "10,000 pixels" in error(answer, 422, "invalid_image")["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/embed/", 404, "not_found"),
        ("GET", "/v1/embed", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_routes_that_are_not_there(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert path in error(answer, status, code)["message"]
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/embed?on_error=return"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "image/png"])
def test_a_body_over_the_limit(small: Served, path: str, kind: str) -> None:
    message = f"the body is over the limit of {2000:,} bytes"
    whole = small.client.post(path, content=b"x" * 2001, headers={"Content-Type": kind})
    assert error(whole, 413, "body_too_large")["message"] == message


def test_a_body_over_the_limit_without_a_length(small: Served) -> None:
    sent: list[int] = []

    def endless() -> Iterator[bytes]:
        while len(sent) < 100:
            sent.append(1000)
            yield b"x" * 1000

    answer = small.client.post("/v1/embed", content=endless(), headers={"Content-Type": "image/png"})
    error(answer, 413, "body_too_large")


def test_a_body_of_exactly_the_limit_is_read(small: Served) -> None:
    answer = small.client.post("/v1/embed", content=GOOD.ljust(2000, b"\0"), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200


def test_too_many_images(small: Served) -> None:
    text = base64.b64encode(GOOD).decode()
    asked = error(small.client.post("/v1/embed", json={"images": [text[:8]] * 4}), 413, "too_many_images")
    assert (asked["param"], "4 images" in asked["message"]) == ("images", True)
    for count in (4, 5):
        answer = small.client.post("/v1/embed", files=[("images", ("a.png", b"x"))] * count)
        assert "limit of 3" in error(answer, 413, "too_many_images")["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/pdf", None])
def test_types_of_body_that_are_not_read(client: TestClient, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert (
        "application/json"
        in error(client.post("/v1/embed", content=GOOD, headers=headers), 415, "unsupported_media_type")["message"]
    )


FORMS = ["image/png", "application/json", "multipart/form-data; boundary=x"]


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_other_compressions_are_refused(client: TestClient, kind: str, encoding: str) -> None:
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    failed = error(client.post("/v1/embed", content=GOOD, headers=headers), 415, "unsupported_encoding")
    assert encoding in failed["message"]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize(
    ("path", "kind"), [*(("/v1/embed", kind) for kind in FORMS), ("/v1/embeddings", "application/json")]
)
def test_a_packed_body_is_bounded_when_it_is_unpacked(
    small: Served, path: str, kind: str, encoding: str, pack: Any
) -> None:
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    for body in (pack(b"\0" * 1_000_000), b"x" * 2001):
        refused = error(small.client.post(path, content=body, headers=headers), 413, "body_too_large")
        assert "2,000 bytes" in refused["message"]
    for broken in (pack(GOOD)[:-1], pack(GOOD) + b"x", b"nonsense", b""):
        failed = error(small.client.post(path, content=broken, headers=headers), 400, "invalid_encoding")
        assert encoding in failed["message"]


def test_no_address_is_ever_opened(client: TestClient) -> None:
    """Nobody knocks at a port that images name, however they name it."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/cat.jpg"
        svg = f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{url}'/></svg>".encode()
        tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [url]}
        bodies: list[tuple[str, dict[str, Any]]] = [
            ("/v1/embed", {"images": [url]}),
            ("/v1/embed", {"images": [{"data": url}]}),
            ("/v1/embed", {"images": [base64.b64encode(svg).decode()]}),
            ("/v1/embed", {"images": [base64.b64encode(url.encode()).decode()]}),
            ("/v1/embeddings", {"model": "tiny", "input": url}),
            ("/v2/models/tiny_image/infer", {"inputs": [tensor]}),
        ]
        for path, body in bodies:
            assert client.post(path, json=body).status_code == 422
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):
            trap.accept()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"images": [NaN]}', b"[" * 100_000])
def test_json_that_is_none(client: TestClient, body: bytes) -> None:
    error(client.post("/v1/embed", content=body, headers={"Content-Type": "application/json"}), 400, "invalid_json")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "images"),
        ({"images": None}, "images"),
        ({"images": "text"}, "images"),
        ({"images": [5]}, "images[0]"),
        ({"images": ["", {"name": "a"}]}, "images[1]"),
        ({"images": [{"data": None}]}, "images[0]"),
        ({"images": [{"data": "", "name": 1}]}, "images[0]"),
        ({"images": [{"data": "", "url": "http://127.0.0.1/"}]}, "images[0]"),
        ({"images": [None]}, "images[0]"),
    ],
)
def test_json_of_another_shape(client: TestClient, body: Any, param: str) -> None:
    assert error(client.post("/v1/embed", json=body), 422, "invalid_images")["param"] == param


def test_a_request_without_images(client: TestClient) -> None:
    assert error(client.post("/v1/embed", json={"images": []}), 422, "no_images")["param"] == "images"
    empty = b"--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    error(client.post("/v1/embed", content=empty, headers=headers), 422, "no_images")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"fields": ["embedding", "colour"]}, "fields"),
        ({"fields": []}, "fields"),
        ({"fields": "embedding"}, "fields"),
        ({"encoding": "float64"}, "encoding"),
        ({"on_error": 1}, "on_error"),
        ({"fields": ["embedding"] * 65}, "fields"),
        ({"feilds": ["embedding"]}, "feilds"),
    ],
)
def test_options_that_are_not_known(client: TestClient, options: dict[str, Any], param: str) -> None:
    images = [base64.b64encode(GOOD).decode()]
    failed = error(client.post("/v1/embed", json={"images": images, **options}), 422, "invalid_option")
    assert failed["param"] == param
    assert failed["message"].startswith(param)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *(("fields=", "fields"), ("encoding=hex", "encoding"), ("on_error=", "on_error"), ("colour=1", "colour")),
        *(("fields=" + "a," * 65, "fields"), ("a=1&" * 65, "query"), ("model=" + "a" * 2048, "query")),
    ],
)
def test_options_in_the_query_that_are_not_known(client: TestClient, query: str, param: str) -> None:
    answer = client.post(f"/v1/embed?{query}", content=GOOD, headers={"Content-Type": "image/png"})
    assert error(answer, 422, "invalid_option")["param"] == param


def test_parts_of_other_names_or_without_a_file(client: TestClient) -> None:
    other = client.post("/v1/embed", files={"picture": ("a.png", GOOD)})
    assert error(other, 422, "unknown_part")["param"] == "picture"
    option = client.post("/v1/embed", files={"images": ("a.png", GOOD)}, data={"encoding": "base64"})
    assert "options go into the query" in error(option, 422, "unknown_part")["message"]
    nameless = b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\nabc\r\n--x--\r\n'
    answer = client.post("/v1/embed", content=nameless, headers={"Content-Type": "multipart/form-data; boundary=x"})
    error(answer, 422, "not_a_file")


def test_a_name_without_end(client: TestClient) -> None:
    images = [{"name": "n" * 1025, "data": ""}]
    error(client.post("/v1/embed", json={"images": images}), 422, "name_too_long")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["application/json", "multipart/form-data; boundary=x", "image/png"]))
def test_no_body_at_all_breaks_the_server(client: TestClient, body: bytes, kind: str) -> None:
    answer = client.post("/v1/embed", content=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_an_answer_that_we_do_not_write(client: TestClient) -> None:
    headers = {"Accept": "text/html, application/json;q=0", "Content-Type": "image/png"}
    assert "x-npz" in error(client.post("/v1/embed", content=GOOD, headers=headers), 406, "not_acceptable")["message"]


def test_the_model_failing_is_told_to_its_own_request_only(tiny_bundle: Bundle) -> None:
    engine = Engine(tiny_bundle)

    def infer(images: Pixels) -> Embeddings:
        if (images[:, :, :, 0] == 66).all(axis=(1, 2)).any():
            raise RuntimeError("out of memory")
        return engine(images)

    with serving(tiny_bundle, infer, name="poisoned") as running:
        headers = {"Content-Type": "image/png"}
        poison = running.client.post("/v1/embed", content=png(66), headers=headers)
        assert "out of memory" in error(poison, 500, "inference_failed")["message"]
        assert running.client.get("/readyz").status_code == 200
        assert running.client.post("/v1/embed", content=GOOD, headers=headers).status_code == 200


def test_a_failure_of_the_server_itself_is_not_shown_to_the_client(served: Served) -> None:
    def broken() -> None:
        raise RuntimeError("a secret")

    served.client.app.add_api_route("/v1/broken", broken)  # type: ignore[attr-defined]
    failed = error(served.client.get("/v1/broken"), 500, "internal_error")
    assert "secret" not in failed["message"]

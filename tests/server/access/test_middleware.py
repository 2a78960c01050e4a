"""API keys through every door, names of requests, and the log."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.server.conftest import Served, over_tcp, png, serving
from tests.server.http.test_errors import error
from tests.server.process.test_serve import failed, running
from vssl.bundle.reading import Bundle
from vssl_client import Client

PNG = {"Content-Type": "image/png"}
FILE = "# two keys\n\n  first-key  \nsecond-key name=two\n"


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(FILE)
    with serving(tiny_bundle, name="guarded", api_keys_file=file) as served:
        yield served


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/health", "/ping", "/metrics", "/v2/health/live", "/v2/health/ready"]
)
def test_health_and_metrics_are_open(guarded: Served, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "", "first-key", "Bearer", "Bearer ", "Bearer first", "Bearer # two keys", "Basic first-key"]
)
@pytest.mark.parametrize("path", ["/v1/embed", "/v1/embeddings", "/v1/nothing"])
def test_everything_else_needs_a_key(guarded: Served, path: str, header: str | None) -> None:
    headers = PNG if header is None else PNG | {"Authorization": header}
    answer = guarded.client.post(path, content=png(1), headers=headers)
    error(answer, 401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"]


def test_the_other_protocols_shapes(guarded: Served) -> None:
    answer = guarded.client.get("/v2/models/guarded")
    assert (answer.status_code, list(answer.json())) == (401, ["error"])
    assert guarded.client.get("/openapi.json").status_code == 401


@pytest.mark.parametrize("header", ["Bearer first-key", "bearer  first-key", "Bearer second-key"])
def test_each_key_opens(guarded: Served, header: str) -> None:
    headers = PNG | {"Authorization": header}
    assert guarded.client.post("/v1/embed", content=png(1), headers=headers).status_code == 200


def test_the_sdks_with_and_without_a_key(guarded: Served) -> None:
    with over_tcp(guarded.client.app) as (host, port):
        url = f"http://{host}:{port}"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="first-key") as sdk:
            assert [card.id for card in sdk.models.list()] == ["guarded"]
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="other") as sdk,
            pytest.raises(openai.AuthenticationError) as raised,
        ):
            sdk.models.list()
        assert raised.value.code == "invalid_api_key"
        with Client(url, api_key="first-key") as client:
            assert client.embed([png(1)]).embedding.shape == (1, 16)


def test_grpc_with_and_without_a_key(guarded: Served) -> None:
    pytest.importorskip("grpc_health")
    import grpc
    import tritonclient.grpc as triton
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from tests.server.grpc.test_service import over_grpc, refused

    with over_grpc(guarded) as address, triton.InferenceServerClient(address) as remote:
        assert remote.is_server_ready()
        with grpc.insecure_channel(address) as channel:
            assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status == 1
        refused(lambda: remote.get_model_metadata("guarded"), "UNAUTHENTICATED", "API key")
        wrong = {"authorization": "Bearer x"}
        refused(lambda: remote.get_model_metadata("guarded", headers=wrong), "UNAUTHENTICATED", "API key")
        right = {"authorization": "Bearer first-key"}
        assert remote.get_model_metadata("guarded", headers=right).name == "guarded"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"\n# none\n", "holds no key"),
        (b"\xff", "can't be read"),
        ("é".encode(), "line 1: a key is not ASCII"),
        (b"a\nsecret word", "line 2: a key has no spaces"),
        (b"secret name=a/b", "line 1: name= is not valid"),
        (b"secret name=a name=b", "name= appears twice"),
        (b"secret scopes=embed,", "scopes are embed, search:GALLERY"),
        (b"secret scopes=search", "scopes are embed"),
        (b"secret filter=[1]", "filter= is not a JSON object"),
        (b'secret filter={"a": 1} name=b', "filter= is not a JSON object"),
        (b"secret\nsecret name=b", "line 2: this key stands on another line too"),
    ],
)
def test_a_file_without_keys_is_one_line(tmp_path: Path, tiny_bundle: Bundle, content: bytes | None, why: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    status, written = failed(tiny_bundle.location, "--port", "0", "--api-keys-file", str(file))
    assert status == 2
    assert f"--api-keys-file {file}" in written
    assert why in written
    assert "secret" not in written


def test_a_requests_name_is_echoed_and_logged(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, "--log-requests") as server:
        asked = httpx2.post(f"{server.url}/v1/embed", content=png(9), headers=PNG | {"X-Request-Id": "mine 1"})
        missed = httpx2.get(f"{server.url}/nothing", headers={"X-Request-Id": "x" * 129})
        assert asked.headers["x-request-id"] == "mine 1"
        made_up = missed.headers["x-request-id"]
        assert len(made_up) == 32
        lines = [json.loads(line) for line in server.stop(signal.SIGTERM).splitlines()]
    assert [(line["request_id"], line["request"], line["status"]) for line in lines] == [
        ("mine 1", "POST /v1/embed", 200),
        (made_up, "GET /nothing", 404),
    ]
    assert all(line["seconds"] > 0 and line["time"] > 1.7e9 for line in lines)


def test_the_name_of_a_key_is_logged_and_never_the_key(tiny_bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(FILE)
    with running(tiny_bundle.location, "--log-requests", "--api-keys-file", str(file)) as server:
        for key in ("first-key", "second-key", "third-key"):
            httpx2.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
        written = server.stop(signal.SIGTERM)
    lines = [json.loads(line) for line in written.splitlines()]
    assert [(line["key"], line["status"]) for line in lines] == [(None, 200), ("two", 200), (None, 401)]
    assert "-key" not in written


def test_a_failure_of_the_server_itself_has_a_name_too(guarded: Served) -> None:
    def broken() -> None:
        raise RuntimeError("a secret")

    guarded.client.app.add_api_route("/v1/broken", broken)  # type: ignore[attr-defined]
    headers = {"Authorization": "Bearer first-key", "X-Request-Id": "seven"}
    answer = guarded.client.get("/v1/broken", headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "seven")

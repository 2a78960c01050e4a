"""Several models in one server; load, unload and reload while it answers, through tritonclient."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.server.conftest import png
from tests.server.test_process import Server, failed, running
from tests.tiny_model import write_tiny_bundle
from vssl.bundle import Bundle

triton = pytest.importorskip("tritonclient.http")

PNG = {"Content-Type": "image/png"}
ADMIN = {"Authorization": "Bearer admin"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two", "three"):
        write_tiny_bundle(folder / name, name)
    (folder / "keys").write_text("admin\n")
    (folder / "users").write_text("user\n")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    flags = [str(folder / "two"), "--admin-keys-file", str(folder / "keys"), "--receive-seconds", "1"]
    with running(folder / "one", *flags) as server:
        yield server


def embed(server: Server, query: str = "") -> httpx2.Response:
    return httpx2.post(f"{server.url}/v1/embed{query}", content=png(7), headers=PNG)


def served(server: Server) -> list[str]:
    return [card["id"] for card in httpx2.get(f"{server.url}/v1/models").json()["data"]]


def test_each_model_answers_by_its_name_and_the_first_without(server: Server) -> None:
    assert "serving one, two on" in server.line
    assert [embed(server, query).json()["model"] for query in ("", "?model=one", "?model=two")] == ["one", "one", "two"]
    missing = embed(server, "?model=four")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_load_and_unload(server: Server, folder: Path) -> None:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        known = {model["name"] for model in client.get_model_repository_index(headers=ADMIN)}
        assert known == {"one", "one_image", "two", "two_image"}
        body = {"parameters": {"bundle": str(folder / "three")}}
        answer = httpx2.post(f"{server.url}/v2/repository/models/three/load", json=body, headers=ADMIN)
        assert answer.status_code == 200
        assert embed(server, "?model=three").json()["model"] == "three"
        assert client.is_model_ready("three_image")
        client.unload_model("three", headers=ADMIN)
        assert not client.is_model_ready("three_image")
        client.load_model("three", headers=ADMIN)  # where it came from is known
        assert client.is_model_ready("three_image")
        client.unload_model("three", headers=ADMIN)
    assert served(server) == ["one", "two"]


def test_a_reload_drops_no_request(server: Server) -> None:
    statuses: list[int] = []
    end = threading.Event()

    def go_on() -> None:
        with httpx2.Client(base_url=server.url) as client:
            while not end.is_set():
                statuses.append(client.post("/v1/embed?model=two", content=png(7), headers=PNG).status_code)

    threads = [threading.Thread(target=go_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        answer = httpx2.post(f"{server.url}/v2/repository/models/two/load", headers=ADMIN)
        assert answer.status_code == 200
    end.wait(1.5)  # the old ones end meanwhile
    end.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert served(server) == ["one", "two"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer user"}])
@pytest.mark.parametrize("path", ["index", "models/two/load", "models/two/unload"])
def test_only_an_administrator_may(server: Server, path: str, headers: dict[str, str]) -> None:
    answer = httpx2.post(f"{server.url}/v2/repository/{path}", headers=headers)
    assert (answer.status_code, list(answer.json())) == (401, ["error"])


def test_without_admin_keys_nobody_may(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location) as server:
        answer = httpx2.post(f"{server.url}/v2/repository/models/tiny/unload", headers=ADMIN)
        assert answer.status_code == 403
        assert "--admin-keys-file" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "why"),
    [
        ("models/none/load", "{}", 404, "name its bundle"),
        ("models/one/load", '{"parameters": {"bundle": "/no/such/place"}}', 400, "no such bundle"),
        ("models/one/load", "{", 400, "not valid JSON"),
        ("models/one/load", '{"parameters": 7}', 422, "parameters"),
        ("models/none/unload", "", 404, "no model"),
    ],
)
def test_what_cannot_be_done_says_why(server: Server, path: str, body: str, status: int, why: str) -> None:
    answer = httpx2.post(f"{server.url}/v2/repository/{path}", content=body, headers=ADMIN)
    assert (answer.status_code, why in answer.json()["error"]) == (status, True)
    assert served(server) == ["one", "two"]


def test_a_bundle_of_another_name_and_one_there_twice(server: Server, folder: Path) -> None:
    body = {"parameters": {"bundle": str(folder / "three")}}
    answer = httpx2.post(f"{server.url}/v2/repository/models/one/load", json=body, headers=ADMIN)
    assert (answer.status_code, "holds 'three', not 'one'" in answer.json()["error"]) == (400, True)
    status, written = failed(folder / "one", str(folder / "one"), "--port", "0")
    assert (status, "one 1 is there twice" in written) == (2, True)

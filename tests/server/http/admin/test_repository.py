"""Several models in one server; load, unload and reload while it answers, through tritonclient."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from tests.server.conftest import expected, png, serving
from tests.server.process.test_serve import Server, failed, read_answer, running, stop_listening
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Engine
from vssl_server.engine.jobs import EngineStoppedError
from vssl_server.engine.model import Model
from vssl_server.models.registry import ModelRegistry
from vssl_server.models.repository import Repository
from vssl_server.wire.errors import ApiError

pytest.importorskip("tritonclient.grpc")

import grpc
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

PNG = {"Content-Type": "image/png"}
ADMIN = {"Authorization": "Bearer admin"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two", "three"):
        write_tiny_bundle(folder / name, name)
    (folder / "keys").write_text("admin\n")
    (folder / "users").write_text("user\n")
    write_tiny_bundle(folder / "one again", "one", version="2", seed=1)
    os.mkfifo(folder / "pipe")
    (folder / "circle").symlink_to(folder / "circle")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    keys, root = ("--admin-keys-file", str(folder / "keys")), ("--model-root", str(folder))
    flags = [str(folder / "two"), *keys, *root, "--receive-seconds", "1"]
    with running(folder / "one", *flags) as server:
        yield server


def embed(server: Server, query: str = "") -> httpx2.Response:
    return httpx2.post(f"{server.url}/v1/embed{query}", content=png(7), headers=PNG, timeout=60)


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
        answer = httpx2.post(f"{server.url}/v2/repository/models/three/load", json=body, headers=ADMIN, timeout=60)
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
        answer = httpx2.post(f"{server.url}/v2/repository/models/two/load", headers=ADMIN, timeout=60)
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
        ("models/one/load", '{"parameters": {"bundle": "no/such/place"}}', 400, "no such bundle"),
        ("models/one/load", '{"parameters": {"bundle": "pipe"}}', 400, "neither a folder nor a file"),
        ("models/one/load", '{"parameters": {"bundle": "a\\u0000b"}}', 400, "bundle is no path"),
        ("models/one/load", '{"parameters": {"bundle": "circle"}}', 400, "bundle"),
        ("models/one/load", '{"parameters": {"bundle": "' + "x" * 5000 + '"}}', 400, "File name too long"),
        ("models/one/load", '{"parameters": {"bundle": 7}}', 422, "valid string"),
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
    answer = httpx2.post(f"{server.url}/v2/repository/models/one/load", json=body, headers=ADMIN, timeout=60)
    assert (answer.status_code, "holds 'three', not 'one'" in answer.json()["error"]) == (400, True)
    status, written = failed(folder / "one", str(folder / "one"), "--port", "0")
    assert (status, "one 1 appears twice" in written) == (2, True)


def test_two_versions_side_by_side_and_a_cache_that_keeps_them_apart(folder: Path) -> None:
    old, new = (expected(open_bundle(folder / place), [png(7)]) for place in ("one", "one again"))
    assert not np.allclose(old.embedding, new.embedding)
    image = triton.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[png(7)]], np.object_))
    flags = [str(folder / "one again"), "--cache-bytes", "1000000"]
    with (
        running(folder / "one", *flags) as server,
        triton.InferenceServerClient(server.url.removeprefix("http://")) as client,
    ):
        assert client.get_model_metadata("one_image")["versions"] == ["1", "2"]
        assert client.get_model_metadata("one", "1")["versions"] == ["1", "2"]
        for version, truth in (("1", old), ("2", new), ("", new), ("1", old)):
            assert client.is_model_ready("one", version)
            result = client.infer("one_image", [image], version)
            np.testing.assert_allclose(result.as_numpy("embedding"), truth.embedding, atol=1e-6)
            assert result.get_response()["model_version"] == (version or "2")
        assert embed(server, "?model=one").json()["version"] == "2"


def test_the_same_over_grpc(folder: Path) -> None:
    keys = ["--admin-keys-file", str(folder / "keys"), "--api-keys-file", str(folder / "users"), "--grpc-port", "0"]
    with running(folder / "one", *keys, "--model-root", str(folder)) as server:
        address = server.line.partition("grpc://")[2].strip()
        with triton_grpc.InferenceServerClient(address) as client, grpc.insecure_channel(address) as channel:
            admin, user = {"authorization": "Bearer admin"}, {"authorization": "Bearer user"}
            for headers, code in (({}, "UNAUTHENTICATED"), (user, "PERMISSION_DENIED.*lacks the scope admin")):
                with pytest.raises(InferenceServerException, match=code):
                    client.load_model("one", headers=headers)
            asked = service_pb2.RepositoryModelLoadRequest(model_name="two")
            asked.parameters["bundle"].string_param = str(folder / "two")
            service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad(asked, metadata=list(admin.items()))
            client.load_model("one", headers=admin)
            index = client.get_model_repository_index(headers=admin).models
            assert [(model.name, model.version, model.state) for model in index] == [
                (name, "1", "READY") for name in ("one", "one_image", "two", "two_image")
            ]
            assert client.is_model_ready("two", headers=user)
            client.unload_model("two", headers=admin)
            with pytest.raises(InferenceServerException, match="NOT_FOUND"):
                client.unload_model("two", headers=admin)
            with pytest.raises(InferenceServerException, match="name its bundle"):
                client.load_model("none", headers=admin)


def test_without_admin_keys_nobody_may_over_grpc(folder: Path) -> None:
    with running(folder / "one", "--grpc-port", "0") as server:
        address = server.line.partition("grpc://")[2].strip()
        with (
            triton_grpc.InferenceServerClient(address) as client,
            pytest.raises(InferenceServerException, match="PERMISSION_DENIED"),
        ):
            client.get_model_repository_index()


def load(server: Server, name: str, bundle: str | None) -> httpx2.Response:
    body = {} if bundle is None else {"parameters": {"bundle": bundle}}
    return httpx2.post(f"{server.url}/v2/repository/models/{name}/load", json=body, headers=ADMIN, timeout=60)


@pytest.mark.parametrize("outside", ["there", "nothing", "file", "pipe", "link"])
def test_what_is_outside_of_the_root_is_refused_whatever_it_is(server: Server, folder: Path, outside: str) -> None:
    place = folder.parent / "outside"
    if not place.exists():
        write_tiny_bundle(place / "there", "one")
        (place / "file").touch()
        os.mkfifo(place / "pipe")
        (folder / "link").symlink_to(place / "there")
    answers = [load(server, "one", f"../outside/{outside}"), load(server, "one", str(place / outside))]
    if outside == "link":
        answers = [load(server, "one", "link")]
    for answer in answers:
        assert (answer.status_code, list(answer.json())) == (403, ["error"])
        assert answer.json()["error"] == "this bundle is not under the folder of --model-root"


def test_without_a_root_only_bundles_named_at_the_start_may_be_loaded(folder: Path) -> None:
    flags = [str(folder / "one again"), "--admin-keys-file", str(folder / "keys"), "--receive-seconds", "0.2"]
    with running(folder / "one", *flags) as server:
        for bundle in ("one", "one again"):
            assert load(server, "one", str(folder / bundle)).status_code == 200
        for bundle in ("two", "none", "pipe"):
            answer = load(server, "one", str(folder / bundle))
            assert (answer.status_code, "--model-root" in answer.json()["error"]) == (403, True)


def test_a_root_that_is_no_folder(folder: Path) -> None:
    status, written = failed(folder / "one", "--port", "0", "--model-root", str(folder / "keys"))
    assert (status, f"--model-root {folder / 'keys'}: no such folder" in written) == (2, True)


def test_the_version_that_is_loaded_again_is_the_last(folder: Path) -> None:
    """And the first model stays the one that answers where none is named."""
    flags = [str(folder / "one again"), str(folder / "two"), "--admin-keys-file", str(folder / "keys")]
    with running(folder / "one", *flags) as server:
        assert [embed(server, query).json()["version"] for query in ("", "?model=one")] == ["2", "2"]
        assert load(server, "one", str(folder / "one")).status_code == 200
        for query in ("", "?model=one"):
            answer = embed(server, query).json()
            assert (answer["model"], answer["version"]) == ("one", "1")
        assert httpx2.get(f"{server.url}/v2/models/one").json()["versions"] == ["2", "1"]
        with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
            image = triton.InferInput("image", [1, 1], "BYTES")
            image.set_data_from_numpy(np.array([[png(7)]], np.object_))
            assert client.infer("one_image", [image]).get_response()["model_version"] == "1"
        assert load(server, "one", str(folder / "one again")).status_code == 200
        assert embed(server).json()["version"] == "2"
        assert load(server, "two", None).status_code == 200
        assert [embed(server, query).json()["model"] for query in ("", "?model=two")] == ["one", "two"]


def test_the_body_of_a_load_has_its_time_and_its_size(server: Server) -> None:
    head = "POST /v2/repository/models/two/load HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n"
    with socket.create_connection(server.address, timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert b" 408 " in connection.recv(100)
    answer = httpx2.post(f"{server.url}/v2/repository/models/two/load", content=b" " * (2**20 + 1), headers=ADMIN)
    assert answer.status_code == 413


def test_a_server_that_stops_loads_nothing(folder: Path) -> None:
    with running(folder / "one", "--admin-keys-file", str(folder / "keys")) as server:
        head = "HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Length: 2\r\n\r\n"
        with socket.create_connection(server.address, timeout=60) as connection:
            connection.sendall(f"POST /v2/repository/models/one/load {head}{{".encode())
            stop_listening(server)
            connection.sendall(b"}")
            assert read_answer(connection) == (503, {"error": "the server is draining"})
        assert "Traceback" not in server.ended()


def test_a_load_that_meets_the_end_of_the_server_changes_nothing(tiny_bundle: Bundle) -> None:
    """By whatever protocol it came: told to stop while the model is opened, or before."""
    with serving(tiny_bundle, name="ending") as running_app:
        registry: ModelRegistry = running_app.client.app.state.registry  # type: ignore[attr-defined]
        opened: list[Model] = []

        def open_model(location: Path) -> Model:
            bundle = open_bundle(location)
            manifest = bundle.manifest.model_copy(update={"name": "ending"})
            opened.append(Model(manifest, Engine(bundle), registry.settings, running_app.pool))
            registry.draining = True
            return opened[-1]

        repository = Repository(registry, open_model, [tiny_bundle.location])
        for change in (repository.load("ending", None), repository.load("ending", None), repository.unload("ending")):
            with pytest.raises(ApiError) as raised:
                asyncio.run(change)
            assert raised.value.status == 503
        assert len(opened) == 1
        with pytest.raises(EngineStoppedError):
            asyncio.run(opened[0].embed_pixels(np.zeros((1, 32, 32, 3), np.uint8)))
        assert [model.manifest.name for model in registry.models] == ["ending"]
        assert opened[0] not in registry.models

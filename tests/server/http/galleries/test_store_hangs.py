"""A store that accepts connections and never answers: requests end at their deadlines, and embedding goes on."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import serving
from tests.server.http.galleries.conftest import galleries_of
from tests.server.http.galleries.test_images import png, text
from vssl.bundle.reading import Bundle

ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/v1/galleries", {}),
    ("GET", "/v1/galleries/shoes/images", {}),
    ("PUT", "/v1/galleries/shoes", {"json": {}}),
    ("POST", "/v1/galleries/shoes/search", {"json": {"id": "a"}}),
    ("POST", "/v1/galleries/shoes/classify", {"json": {"id": "a"}}),
    ("POST", "/v1/galleries/shoes/images", {"json": {"images": [text(png(1))]}}),
    ("POST", "/v1/galleries/shoes/delete", {"json": {"ids": ["a"]}}),
]


@pytest.fixture(scope="module")
def client(tiny_bundle: Bundle) -> Iterator[TestClient]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    accepted.append(silent.accept()[0])
            except OSError:
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        place = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none?connect_timeout=60"
        with serving(tiny_bundle, name="store-hangs", galleries=place, allowed_hosts="testserver") as served:
            yield served.client
            silent.shutdown(socket.SHUT_RDWR)  # what waits for an answer gets an error, and can end
            thread.join()
            for one in accepted:
                one.close()


def test_every_request_ends_at_its_deadline_and_embedding_goes_on(client: TestClient) -> None:
    with ThreadPoolExecutor(len(ASKED)) as threads:

        def ask(method: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
            answer = client.request(method, path, headers={"VSSL-Timeout": "0.5"}, **body)
            return answer.status_code, answer.json()["error"]["code"]

        answers = [threads.submit(ask, *one) for one in ASKED]
        assert client.post("/v1/embed", json={"images": [text(png(2))]}).status_code == 200
        assert {answer.result(30) for answer in answers} == {(504, "deadline_exceeded")}
    galleries = galleries_of(client)
    assert galleries.opened() == []  # at once, though others wait for the place
    assert client.get("/readyz").status_code == 200

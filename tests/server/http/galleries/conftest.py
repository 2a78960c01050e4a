"""The application with galleries in a folder of LanceDB, and what tests of its routes share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.gallery.samples import some_rows
from tests.server.conftest import serving
from vssl.bundle.reading import Bundle
from vssl_gallery.gallery import Gallery
from vssl_server.http.galleries.galleries import Galleries

Json = dict[str, Any]


@contextmanager
def with_galleries(bundle: Bundle, folder: Path, name: str = "galleries", **settings: Any) -> Iterator[TestClient]:
    """Asked under the name `testserver`."""
    settings = {"galleries": str(folder / "galleries"), "allowed_hosts": "testserver", **settings}
    with serving(bundle, name=name, **settings) as served:
        yield served.client


@pytest.fixture(scope="module")
def client(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with with_galleries(tiny_bundle, tmp_path_factory.mktemp("served")) as client:
        yield client


def galleries_of(client: TestClient) -> Galleries:
    found: Galleries = client.app.state.galleries  # type: ignore[attr-defined]
    return found


def stored(client: TestClient, name: str) -> Gallery:
    """The gallery behind the server, to look at or fill without it."""
    return Gallery(galleries_of(client).place().open(name))


def filled(client: TestClient, name: str, count: int, **columns: Any) -> Gallery:
    """A new gallery with the rows of `some_rows`; `fields` among the columns declares its fields."""
    fields = columns.pop("fields", {})
    answer = client.put(f"/v1/galleries/{name}", json={"fields": fields})
    assert answer.status_code == 201, answer.text
    gallery = stored(client, name)
    if count:
        gallery.add(some_rows(count, dimension=gallery.spec.dimension, **columns))
    return gallery


def ended(client: TestClient, answer: Any, headers: Json | None = None) -> Json:
    """The job that the answer began, when it has ended."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['job']['id']}"
    for _ in range(6000):
        job: Json = client.get(answer.headers["location"], headers=headers).json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.01)
    raise AssertionError(f"never ended: {job}")

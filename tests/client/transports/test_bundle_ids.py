"""Rows of two models of one name and version are never put together, whichever way they came."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import Proxy, proxied, serving
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.sources.opening import open_source
from vssl_client import Client, ModelChanged
from vssl_client.folder.job import embed_source


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another model under the tiny one's name and version, which looks at other pixels."""
    return write_tiny_bundle(tmp_path_factory.mktemp("twin") / "tiny", name="tiny", seed=1, crop=0.5)


@pytest.fixture(scope="module")
def other(twin: Bundle) -> Iterator[str]:
    with serving(twin.location) as url:
        yield url


def after(route: str, *steps: Callable[[], Any], silent: bool = False) -> Callable[[str, bytes], bytes]:
    """What a proxy does with answers: after each one of that route, the next step; `silent` ones hide their bundle."""
    left = iter(steps)

    def edit(path: str, body: bytes) -> bytes:
        if route in path:
            next(left, lambda: None)()
            return body.replace(b'"vssl_bundle"', b'"vssl_hidden"') if silent else body
        return body

    return edit


def switch(proxy: Proxy, upstream: str) -> Callable[[], None]:
    return lambda: setattr(proxy, "upstream", upstream)


def test_every_answer_names_its_bundle(client: Client, tiny_bundle: Bundle) -> None:
    for images in (pictures(3), [b"text"] * 3, []):
        assert client.embed(images, on_error="return").bundle_id == tiny_bundle.manifest.id


def test_a_mixture_is_refused(server: str, other: str, tiny_bundle: Bundle, twin: Bundle) -> None:
    ids = [bundle.manifest.id[:12] for bundle in (tiny_bundle, twin)]
    with (
        Client([server, other], connections=1) as client,
        pytest.raises(ModelChanged, match=rf"{ids[0]}.*{ids[1]}|{ids[1]}.*{ids[0]}"),
    ):
        client.embed(pictures(300))


def test_a_job_refuses_a_part_with_a_row_of_another_model(
    server: str, other: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """The model is the same again when the part is closed, so that asking for it then shows nothing."""
    (tmp_path / "photos").mkdir()
    for number, file in enumerate(pictures(70)):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(file)
    with proxied(server) as (proxy, url), Client(url, connections=1) as client:
        proxy.edit = after("/v1/embed", switch(proxy, other), switch(proxy, server))
        with pytest.raises(ModelChanged, match="changed"):
            embed_source(open_source(str(tmp_path / "photos")), tmp_path / "out", client)
        assert client.model().id == tiny_bundle.manifest.id
    assert not list((tmp_path / "out").glob("part-*"))


def photograph() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_so_it_is_of_pixels(server: str, other: str, tiny_bundle: Bundle) -> None:
    with proxied(server) as (proxy, url), Client(url, resize_locally=True, connections=1) as client:
        assert client.embed([photograph()] * 3).bundle_id == tiny_bundle.manifest.id
        proxy.edit = after("/v1/embed", switch(proxy, other))
        with pytest.raises(ModelChanged):
            client.embed([photograph()] * 150)


def test_pixels_are_drawn_anew_for_another_model(
    server: str, other: str, twin: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with proxied(server) as (proxy, url), Client(url, resize_locally=True) as client:
        client.embed([photograph()])
        proxy.upstream = other
        result = client.embed([photograph()])
        assert result.bundle_id == twin.manifest.id
        assert_same(result, oracle(twin, [photograph()]))


@pytest.mark.parametrize("silent", [False, True], ids=["answers name it", "only its configuration does"])
def test_so_it_is_over_the_protocol(server: str, other: str, tiny_bundle: Bundle, twin: Bundle, silent: bool) -> None:
    pytest.importorskip("tritonclient")
    images = pictures(150)  # three batches
    with proxied(server) as (proxy, url), Client(url, transport="triton", model="tiny", connections=1) as client:
        proxy.edit = after("/infer", silent=silent)
        assert client.embed(images).bundle_id == tiny_bundle.manifest.id
        proxy.edit = after("/infer", lambda: None, switch(proxy, other), silent=silent)
        with pytest.raises(ModelChanged):
            client.embed(images)
        assert client.embed(images).bundle_id == twin.manifest.id


def test_an_answer_that_came_while_the_model_changed_is_asked_for_again(server: str, other: str, twin: Bundle) -> None:
    pytest.importorskip("tritonclient")
    images = pictures(5)
    with proxied(server) as (proxy, url), Client(url, transport="triton", model="tiny") as client:
        client.embed(images)
        proxy.edit = after("/infer", switch(proxy, other), silent=True)
        result = client.embed(images)
    assert_same(result, oracle(twin, images))
    assert result.bundle_id == twin.manifest.id

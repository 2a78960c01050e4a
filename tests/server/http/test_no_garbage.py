"""What a request leaves behind is freed at once. In a cycle it would stay until garbage is collected: under load these
are hundreds of megabytes of pictures, whose end holds up everybody for as long as a second.
"""

import gc
import http.client
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.requests import Request

from tests.server.conftest import GatedEngine, over_tcp, png, serving
from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine
from vssl_server.decoding.request import Decoding
from vssl_server.http.exchange import WATCH_AFTER_SECONDS

OF_A_REQUEST = (Request, Decoding)
IMAGE = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}


def ask(address: tuple[str, int], body: bytes, headers: dict[str, str], path: str = "/v1/embed") -> int:
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("POST", path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Nobody collects garbage in the block, and nothing of its requests is left at its end."""
    gc.collect()
    gc.disable()
    try:
        yield
        end = time.monotonic() + 60
        while left := [type(each).__name__ for each in gc.get_objects() if isinstance(each, OF_A_REQUEST)]:
            assert time.monotonic() < end, f"left in cycles: {left}"
            time.sleep(0.01)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("body", "headers", "path", "status"),
    [
        (png(1), IMAGE, "/v1/embed", 200),
        (png(1)[:60], IMAGE, "/v1/embed", 422),
        (b"{", JSON, "/v1/embed", 400),
        (b'{"images": ["!"]}', JSON, "/v1/embed", 422),
        (b'{"model": "nothing", "input": "aaaa"}', JSON, "/v1/embeddings", 404),
        (b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, "/v1/embed", 400),
        (b"{}", JSON, "/v2/models/tiny/infer", 400),
        (png(1), {"Inference-Header-Content-Length": "0"}, "/v2/models/tiny_image/infer", 200),
    ],
)
def test_an_answered_request(
    address: tuple[str, int], body: bytes, headers: dict[str, str], path: str, status: int
) -> None:
    with leaving_nothing():
        assert [ask(address, body, headers, path) for _ in range(3)] == [status] * 3


def test_a_slow_one_a_late_one_and_one_that_finds_no_place(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "garbage_slow", queue_images=1, max_images=1) as running,
        over_tcp(running.client.app) as address,
        leaving_nothing(),
    ):
        assert ask(address, png(2), IMAGE | {"VSSL-Timeout": str(2 * WATCH_AFTER_SECONDS)}) == 504
        assert engine.entered.acquire(timeout=60)
        one = http.client.HTTPConnection(*address, timeout=60)
        one.request("POST", "/v1/embed", png(3), IMAGE)
        while ask(address, png(4), IMAGE | {"VSSL-Timeout": "0.01"}) != 429:
            pass
        engine.let.release(3)
        assert one.getresponse().status == 200
        one.close()


def test_one_whose_client_went_away(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "garbage_gone") as running,
        over_tcp(running.client.app) as address,
        leaving_nothing(),
    ):
        one = http.client.HTTPConnection(*address, timeout=60)
        one.request("POST", "/v1/embed", png(2), IMAGE)
        assert engine.entered.acquire(timeout=60)
        one.close()
        engine.let.release()


def test_one_on_which_the_engine_fails(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        logging.getLogger("vssl.server"), "disabled", True
    )  # pytest keeps the records, and their errors
    real = Engine(tiny_bundle)

    def failing(images: Pixels) -> Embeddings:
        if images.any():
            raise RuntimeError("this call was to fail")
        return real(images)

    with (
        serving(tiny_bundle, failing, "garbage_fails") as running,
        over_tcp(running.client.app) as address,
        leaving_nothing(),
    ):
        assert ask(address, png(2), IMAGE) == 500

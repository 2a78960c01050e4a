"""The SDK over the Open Inference Protocol, and pixels in place of files: the same rows on every way."""

import asyncio
import gc
import gzip
import io
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bad_files import REASONS, bad_files
from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import proxied, serving
from tests.ports import free_port
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_client import AsyncClient, BadAnswer, Client, ClientError, ConnectionFailed, Overloaded, RequestRejected
from vssl_client.inputs import ImageInput
from vssl_client.transports import http

pytest.importorskip("tritonclient")
WAYS = ["triton", "grpc"]


@dataclass(frozen=True)
class Addresses:
    triton: str
    grpc: str


@pytest.fixture(scope="module")
def addresses(tiny_bundle: Bundle) -> Iterator[Addresses]:
    """A server that speaks the protocol over HTTP and gRPC."""
    port = free_port()
    with serving(tiny_bundle.location, "--grpc-port", str(port), "--max-images", "40") as url:
        yield Addresses(url.split(" and ")[0], f"127.0.0.1:{port}")


def connected(way: Any, addresses: Addresses, **options: Any) -> Client:
    return Client(getattr(addresses, way), transport=way, model="tiny", **options)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_the_engines_whatever_carries_them(
    way: str, compression: str | None, addresses: Addresses, tiny_bundle: Bundle
) -> None:
    images = pictures(100)  # batches of 64, more than this server takes at once
    with connected(way, addresses, compression=compression) as client:
        assert_same(client.embed(images), oracle(tiny_bundle, images))


@pytest.mark.parametrize("way", WAYS)
def test_they_tell_the_same_model(way: str, addresses: Addresses, client: Client, tiny_bundle: Bundle) -> None:
    with connected(way, addresses) as over_protocol:
        assert over_protocol.model() == client.model()
        assert over_protocol.model().encoder_id == tiny_bundle.encoder_id
        assert over_protocol.embed(pictures(2)).bundle_id == client.model().id


@pytest.mark.parametrize("way", WAYS)
def test_bad_images_have_their_errors_there_too(way: str, addresses: Addresses, tiny_bundle: Bundle) -> None:
    good, bad = pictures(30), bad_files()
    with connected(way, addresses) as client:
        result = client.embed([*good[:10], *bad.values(), *good[10:]], on_error="return")
        assert [error.type for error in result.errors if error] == [REASONS[name] for name in bad]
        assert_same(result[result.ok], oracle(tiny_bundle, good))
        only_bad = client.embed(list(bad.values()), on_error="return")
        assert only_bad.embedding.shape == (len(bad), 16)
        assert not only_bad.ok.any()


@pytest.mark.parametrize("way", WAYS)
def test_in_an_event_loop_as_well(way: Any, addresses: Addresses, tiny_bundle: Bundle) -> None:
    images = pictures(100)

    async def run() -> Any:
        async with AsyncClient(getattr(addresses, way), transport=way, model="tiny") as client:
            return await client.embed(images)

    assert_same(asyncio.run(run()), oracle(tiny_bundle, images))


@pytest.mark.parametrize("way", WAYS)
def test_failures_have_their_types(way: Any, addresses: Addresses, impatient: None) -> None:
    with (
        Client("127.0.0.1:9", transport=way, model="tiny", retries=1) as client,
        pytest.raises((ConnectionFailed, Overloaded)),  # gRPC calls a server that is not there unavailable
    ):
        client.embed(pictures(1))
    with (
        Client(getattr(addresses, way), transport=way, model="other") as client,
        pytest.raises(RequestRejected, match="no model 'other'") as caught,
    ):
        client.model()
    assert caught.value.status == 404


def test_what_triton_fails_at_is_tried_again(addresses: Addresses, tiny_bundle: Bundle, impatient: None) -> None:
    images = pictures(5)
    with proxied(addresses.triton) as (proxy, url):
        for _ in range(3):
            proxy.faults.put("drop")
        proxy.faults.put((503, {}))
        with Client(url, transport="triton", model="tiny") as client:
            assert_same(client.embed(images), oracle(tiny_bundle, images))
            proxy.always = "garbage"
            with pytest.raises(BadAnswer):
                client.model()


def photograph() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def plain() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("way", "compression"), [("http", None), ("http", "gzip"), ("triton", None), ("grpc", "gzip")])
def test_pixels_are_sent_where_they_are_fewer_bytes(
    way: Any, compression: Any, addresses: Addresses, tiny_bundle: Bundle
) -> None:
    large, small = photograph(), plain()
    assert len(small) < 32 * 32 * 3 < len(large)
    url = addresses.triton if way == "http" else getattr(addresses, way)
    model = None if way == "http" else "tiny"
    with Client(url, transport=way, model=model, resize_locally=True, compression=compression) as client:
        for images in ([large] * 50, [small] * 3, [large, b"text", large]):
            result = client.embed([*images], on_error="return")
            good = [image for image in images if image != b"text"]
            assert_same(result[result.ok], oracle(tiny_bundle, good))
            assert [error and error.type for error in result.errors if error] == ["not_an_image"] * (
                len(images) - len(good)
            )
        assert not client.embed([b"x" * 10_000], on_error="return").ok.any()


def test_files_are_packed_where_it_was_asked_for(
    server: str, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[tuple[int, int]] = []

    def compress(data: bytes, compresslevel: int) -> bytes:
        packed = gzip.compress(data, compresslevel)
        lengths.append((len(data), len(packed)))
        return packed

    monkeypatch.setattr(http, "gzip", SimpleNamespace(compress=compress))
    file = io.BytesIO()
    Image.open(io.BytesIO(plain())).save(file, "BMP")
    images = [file.getvalue(), plain()]
    with Client(server, compression="gzip") as client:
        assert_same(client.embed(images), oracle(tiny_bundle, images))
    assert all(sent < whole / 2 for whole, sent in lengths)
    assert lengths


def test_pixels_go_through_where_files_do_not(tiny_bundle: Bundle) -> None:
    """A server that takes small bodies alone shows that no file is sent."""
    images: list[ImageInput] = [photograph()] * 5
    with serving(tiny_bundle.location, "--max-body-bytes", "50000") as url:
        with Client(url) as client, pytest.raises(ClientError, match="over the limit"):
            client.embed(images)
        with Client(url, resize_locally=True) as client:
            assert_same(client.embed(images), oracle(tiny_bundle, [photograph()] * 5))


@pytest.mark.parametrize(
    "options",
    [
        {"transport": "triton"},
        {"transport": "carrier pigeon"},
        {"compression": "zip"},
        {"timeout": 0},
        {"retries": -1},
        {"connections": 0},
    ],
)
def test_options_that_mean_nothing_are_usage_errors(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Client("http://127.0.0.1:9", **options)


def test_without_tritonclient_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tritonclient"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    with pytest.raises(UsageError, match=r"pip install 'vssl\[triton\]'"):
        Client("127.0.0.1:9", transport="grpc", model="tiny")


@pytest.mark.parametrize("way", WAYS)
def test_closing_leaves_no_thread(way: str, addresses: Addresses) -> None:
    gc.collect()  # what earlier tests left
    before = set(threading.enumerate())
    clients = [connected(way, addresses) for _ in range(3)]  # they are still held when it is counted
    for client in clients:
        with client:
            client.embed([*pictures(3), b"text"], on_error="return")
        client.close()
    deadline = time.monotonic() + 60  # nobody waits for a thread that has been told to end
    while time.monotonic() < deadline and not set(threading.enumerate()) <= before:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before

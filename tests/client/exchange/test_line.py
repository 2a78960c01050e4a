"""Images are decoded by the client where that is faster, and only there: all else stays as it is."""

import asyncio
import io
import logging
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.client.processes import Proxy, proxied, serving
from vssl.bundle.reading import Bundle
from vssl.images.decoding import ImageError, Limits, Preprocessing, decode
from vssl_client import AsyncClient, Client, inputs
from vssl_client.exchange.line import Line, Spent, pays, served_seconds

SECONDS = st.floats(1e-3, 1e3)
BYTES = st.integers(1, 10**9)
OLD = b"application/x-npy", b"application/x-old"


def photographs(count: int) -> list[bytes]:
    files = []
    for seed in range(count):
        noise, file = np.random.default_rng(seed).integers(0, 256, (90, 60, 3), dtype=np.uint8), io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        files.append(file.getvalue())
    return files


PHOTOGRAPHS = photographs(4)


@pytest.fixture(scope="module")
def url(calibrated_bundle: Bundle) -> Iterator[str]:
    with serving(calibrated_bundle.location) as url:
        yield url


def slow(proxy: Proxy) -> list[tuple[str, str | None]]:
    """Make the way long; the requests that embed, by path and Content-Type, as they are answered."""
    asked: list[tuple[str, str | None]] = []

    def edit(path: str, body: bytes) -> bytes:
        if path != "/v1/models":
            asked.append((path.partition("?")[0], (proxy.headers["Content-Type"] or "").partition(";")[0]))
        return body

    proxy.edit, proxy.slow = edit, 0.4
    return asked


FILE, PIXELS = ("/v1/embed", "multipart/form-data"), ("/v1/embed", "application/x-npy")


def test_over_a_slow_line_pixels_take_over_and_nothing_else_changes(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with Client(url) as direct:
        expected = direct.embed(PHOTOGRAPHS)
    caplog.set_level(logging.INFO, "vssl.client")
    with proxied(url) as (proxy, address), Client(address) as client:
        asked = slow(proxy)
        while not client._line.measured:
            client.embed(PHOTOGRAPHS[:1])
        assert set(asked) == {FILE}
        asked.clear()
        client.embed(PHOTOGRAPHS[:1])
        proxy.slow = 0.0
        result = client.embed([*PHOTOGRAPHS, b"text" * 9000], on_error="return")
        assert asked == [PIXELS, PIXELS, FILE]  # the server has the last word on what is no image here
    assert [error and error.type for error in result.errors] == [None] * 4 + ["not_an_image"]
    assert result.percentile is not None
    assert result.flags is not None
    for name in ("embedding", "variance", "uncertainty", "percentile", "confidence", "familiarity"):
        np.testing.assert_allclose(getattr(result, name)[:4], getattr(expected, name), rtol=1e-4, err_msg=name)
    told = [record.message for record in caplog.records if "the way" in record.message]
    assert len(told) == 1
    assert told[0].startswith("images are decoded here from now on")


def test_a_server_that_takes_no_pixels_gets_files(url: str) -> None:
    """Its answers to tensors would have no calibration. Who asks for pixels gets that."""
    with proxied(url) as (proxy, address):
        asked = slow(proxy)
        seen = proxy.edit
        proxy.edit = lambda path, body: seen(path, body.replace(*OLD))
        with Client(address) as client:
            while not client._line.measured:
                client.embed(PHOTOGRAPHS[:1])
            assert client.embed(PHOTOGRAPHS).percentile is not None
            assert client._line.slow is None
        assert set(asked) == {FILE}
        asked.clear()
        proxy.slow = 0.0
        with Client(address, resize_locally=True) as client:
            assert client.embed(PHOTOGRAPHS).percentile is None
        assert asked == [("/v2/models/calibrated/infer", "application/octet-stream")]


def test_an_image_that_is_not_known_here_goes_as_a_file(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_the_second(data: bytes, how: Preprocessing, limits: Limits) -> object:
        if data == PHOTOGRAPHS[1]:
            raise ImageError("unsupported_format", "no decoder here")
        return decode(data, how, limits)

    monkeypatch.setattr(inputs, "decode", without_the_second)
    with Client(url, resize_locally=False) as plain, Client(url) as client, Client(url, resize_locally=True) as always:
        client._line.slow = True
        expected, result = plain.embed(PHOTOGRAPHS), client.embed(PHOTOGRAPHS)
        refused = always.embed(PHOTOGRAPHS, on_error="return")
    np.testing.assert_allclose(result.embedding, expected.embedding, atol=1e-5)
    assert result.index.tolist() == [0, 1, 2, 3]
    assert [error and error.type for error in refused.errors] == [None, "unsupported_format", None, None]


def test_in_an_event_loop(url: str) -> None:
    async def run(address: str, asked: list[tuple[str, str | None]]) -> None:
        async with AsyncClient(address) as client:
            while not client._line.measured:
                await client.embed(PHOTOGRAPHS[:1])
            asked.clear()
            assert (await client.embed(PHOTOGRAPHS[:1])).percentile is not None

    with proxied(url) as (proxy, address):
        asked = slow(proxy)
        asyncio.run(run(address, asked))
    assert asked == [PIXELS]


@given(way=SECONDS, served=SECONDS, sent=BYTES, files=BYTES, pixels=BYTES, decoding=SECONDS)
def test_it_pays_where_the_time_is_less(
    way: float, served: float, sent: int, files: int, pixels: int, decoding: float
) -> None:
    spent = Spent(way, served, sent)
    per_byte = way / sent
    saved = files * per_byte - (pixels * per_byte + decoding)
    if abs(saved) > 1e-6 * (files + pixels) * per_byte:
        assert pays(spent, files, pixels, decoding) == (way > served and saved > 0)


def test_nothing_is_decided_by_little() -> None:
    line = Line()
    for _ in range(2):
        line.answered(10**6, 5.0, "total;dur=1000, receive;dur=900, queue;dur=1")
    assert not line.measured
    line.answered(10**6, 5.0, "total;dur=1000, receive;dur=900, queue;dur=1")
    assert line.measured
    assert (line.spent.way, line.spent.served) == pytest.approx((14.7, 0.3))
    quick = Line()
    for _ in range(3):
        quick.answered(10**6, 0.1, "total;dur=10, receive;dur=9, queue;dur=1")
    assert not quick.measured
    assert line.decide(3 * 10**6, 10**5, 1.0)
    assert not line.measured


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("total;dur=12", None),
        ("cache;desc=hit, total;dur=12.5, receive;dur=2", 0.0105),
        ("total;dur=1, receive;dur=2", 0.0),
        ("total;dur=nan, receive;dur=2", None),
    ],
)
def test_the_servers_own_time(header: str | None, seconds: float | None) -> None:
    assert served_seconds(header) == (seconds if seconds is None else pytest.approx(seconds))

"""Which thread decodes an image, in which order, and how much at once: by what the headers say of the work."""

import io
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import get_ident
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bombs import many_scans
from tests.core.samples import heic
from tests.server.conftest import GatedEngine, serving
from tests.server.http.test_errors import error
from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle
from vssl.images.decoding import Limits, Preprocessing, decode
from vssl_server.decoding.futures import settle
from vssl_server.decoding.pool import Line, Pool
from vssl_server.decoding.request import IN_PLACE, Decoder, Decoding, TooManyPixelsError
from vssl_server.engine.jobs import BatchResult


def file(format: str, side: int) -> bytes:
    written, image = io.BytesIO(), Image.new("RGB", (side, side), (200, 100, 0))
    if format == "HEIC":
        return heic(image)
    image.save(written, format)
    return written.getvalue()


@pytest.mark.parametrize(
    ("format", "side", "here"),
    [("PNG", 32, True), ("JPEG", 32, True), ("PNG", 900, False), ("AVIF", 32, False), ("HEIC", 64, False)],
)
def test_small_images_are_decoded_in_place_but_none_whose_header_may_lie(format: str, side: int, here: bool) -> None:
    data, how = file(format, side), Preprocessing(8)
    assert len(data) <= IN_PLACE.max_bytes
    queued: Future[tuple[int, Pixels]] = Future()

    def queue(images: Sequence[Pixels], _: "Future[BatchResult]", waited: float) -> None:
        queued.set_result((get_ident(), images[0]))

    with Pool(1) as pool:
        Decoding(Decoder(how, Limits(), 10**9, pool), [data], Future(), queue, all_or_none=True).start()
        thread, pixels = queued.result(10)
    assert (thread == get_ident()) == here
    np.testing.assert_array_equal(pixels, decode(data, how))


def solid(side: int) -> bytes:
    """A picture of one colour, of which a million pixels are a few hundred bytes."""
    written = io.BytesIO()
    Image.new("RGB", (side, side), (200, 100, 0)).save(written, "PNG", compress_level=9)
    return written.getvalue()


def photo(side: int = 200) -> bytes:
    """A JPEG that is too large to be decoded in place."""
    written = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(written, "JPEG", quality=90)
    assert len(written.getvalue()) > IN_PLACE.max_bytes
    return written.getvalue()


def many(data: bytes, count: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{number}.png", data)) for number in range(count)]


def test_a_small_request_is_answered_before_the_large_ones_that_came_first(tiny_bundle: Bundle) -> None:
    let, large = threading.Event(), many(solid(1500), 6)
    with serving(tiny_bundle, name="turns", decode_threads=2) as served, ThreadPoolExecutor() as threads:
        for _ in range(2):  # large images that are being decoded
            served.pool.submit(Line(), let.wait, heavy=True)
        futures = [threads.submit(served.client.post, "/v1/embed", files=large) for _ in range(3)]
        while served.pool.waiting < 18:  # all have been measured
            assert served.client.get("/healthz").status_code == 200
        for _ in range(3):
            assert served.client.post("/v1/embed", files=many(photo(), 3)).status_code == 200
        assert not any(future.done() for future in futures)
        let.set()
        assert [future.result(60).status_code for future in futures] == [200] * 3


def test_the_pixels_of_a_request_have_a_limit_that_names_itself(tiny_bundle: Bundle) -> None:
    limits: dict[str, Any] = {"max_pixels": 1_000_000, "max_request_pixels": 2_000_000, "max_pending_pixels": 3_000_000}
    with serving(tiny_bundle, name="pixels", **limits) as served:
        card = served.client.get("/v1/models").json()["data"][0]
        assert {name: card[name] for name in limits} == limits
        assert served.client.post("/v1/embed", files=many(solid(1000), 2)).status_code == 200
        refused = served.client.post("/v1/embed", files=many(solid(1000), 3))
        failed = error(refused, 413, "too_many_pixels")
        assert "2,000,000 pixels" in failed["message"]
        assert "several requests" in failed["message"]
        # What is refused by its own header counts nothing.
        answer = served.client.post("/v1/embed?on_error=return", files=[*many(solid(1001), 9), *many(solid(900), 1)])
        assert [item.get("error", {}).get("type") for item in answer.json()["data"]] == ["too_many_pixels"] * 9 + [None]
        assert served.pool.pending_pixels == 0


def test_the_pixels_in_flight_have_a_limit_and_make_place_again(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    limits: dict[str, Any] = {"max_pixels": 1_000_000, "max_request_pixels": 2_000_000, "max_pending_pixels": 3_000_000}
    with serving(tiny_bundle, engine, "pending", **limits) as served, ThreadPoolExecutor() as threads:
        first = threads.submit(served.client.post, "/v1/embed", files=many(solid(1000), 2))
        engine.entered.acquire()
        refused = served.client.post("/v1/embed", files=many(solid(1000), 2))
        assert "2,000,000 of 3,000,000 pixels" in error(refused, 429, "queue_full")["message"]
        assert int(refused.headers["retry-after"]) >= 1
        engine.let.release(3)
        assert first.result(60).status_code == 200
        assert served.client.post("/v1/embed", files=many(solid(1000), 2)).status_code == 200
        assert served.pool.pending_pixels == 0


def test_a_jpeg_that_draws_its_pixels_again_and_again_counts_as_so_many() -> None:
    data = many_scans(side=500, scans=200)
    with Pool(1) as pool:
        decoder, result = Decoder(Preprocessing(8), Limits(), 9_999_999, pool), Future[BatchResult]()
        Decoding(decoder, [data, data], result, lambda *_: None, all_or_none=True).start()
        assert isinstance(result.exception(60), TooManyPixelsError)


class Racing(Future[BatchResult]):
    """A future that is cancelled right after it has said that it is not done: the worst moment there is."""

    def done(self) -> bool:
        found = super().done()
        self.cancel()
        return found


def test_a_cancellation_at_any_moment_kills_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    assert not settle(Racing())

    def fails(*_: object) -> None:
        raise RuntimeError("no place left")

    with Pool(1) as pool:
        for images in ([solid(40)], [solid(40)] * 2):
            decoder = Decoder(Preprocessing(8), Limits(), 10**9, pool)
            work = Decoding(decoder, images, Racing(), fails, all_or_none=True)
            work._guarded(work._finish)
    assert not caplog.records

"""Which thread decodes an image: the caller's own where that is sure to be quick, else one of the pool."""

import io
from collections.abc import Sequence
from concurrent.futures import Future
from threading import get_ident

import numpy as np
import pytest
from PIL import Image

from vssl.preprocessing import Limits, Preprocessing, decode
from vssl_server.batcher import Answer, Pixels
from vssl_server.decoding import SMALL, Decoding
from vssl_server.pool import Pool


def file(format: str, side: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (side, side), (200, 100, 0)).save(written, format)
    return written.getvalue()


@pytest.mark.parametrize(
    ("format", "side", "here"),
    [("PNG", 32, True), ("JPEG", 32, True), ("PNG", 900, False), ("AVIF", 32, False)],
)
def test_small_images_are_decoded_in_place_but_no_avif_whose_header_may_lie(format: str, side: int, here: bool) -> None:
    data, how = file(format, side), Preprocessing(8)
    assert len(data) <= SMALL.max_bytes
    queued: Future[tuple[int, Pixels]] = Future()

    def queue(images: Sequence[Pixels], _: "Future[Answer]", waited: float) -> None:
        queued.set_result((get_ident(), images[0]))

    with Pool(1) as pool:
        Decoding([data], how, Limits(), queue, all_or_none=True).start(pool)
        thread, pixels = queued.result(10)
    assert (thread == get_ident()) == here
    np.testing.assert_array_equal(pixels, decode(data, how))

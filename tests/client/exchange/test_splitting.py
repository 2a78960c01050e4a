"""Batches cut to what the server takes, by its own word, once it has refused one."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import proxied, serving
from vssl.bundle.reading import Bundle
from vssl.images.decoding import Preprocessing
from vssl_client import Client, ModelInfo
from vssl_client.exchange.splitting import PART_BYTES, pixels, split

LIMIT = st.none() | st.integers(1, 5000)


@given(st.lists(st.binary(max_size=1500), min_size=1, max_size=20), LIMIT, LIMIT, LIMIT)
def test_every_request_is_within_the_limits_or_holds_one_image(
    junk: list[bytes], images: int | None, body: int | None, area: int | None
) -> None:
    files = [*junk, *FILES]
    model = ModelInfo("m", "1", "i", 2, 32, None, images, body, area)
    batches = split(files, model)
    assert [image for batch in batches for image in batch] == files
    for batch in batches:
        costs = (
            len(batch),
            sum(len(image) + PART_BYTES for image in batch),
            sum(pixels(image, Preprocessing(32)) for image in batch),
        )
        fits = all(limit is None or cost <= limit for cost, limit in zip(costs, (images, body, area), strict=True))
        assert fits or len(batch) == 1


FILES = pictures(6)


def flat() -> bytes:
    """Many pixels in few bytes."""
    file = io.BytesIO()
    Image.new("RGB", (500, 400), "teal").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def narrow(tiny_bundle: Bundle) -> Iterator[str]:
    """A server that takes a million pixels in a request: five of these images."""
    limits = ["--max-pixels", "500000", "--max-request-pixels", "1000000"]
    with serving(tiny_bundle.location, *limits) as url:
        yield url


def test_what_was_refused_once_is_not_sent_again(narrow: str, tiny_bundle: Bundle) -> None:
    with proxied(narrow) as (proxy, url), Client(url, connections=1) as client:
        assert client.model().max_request_pixels == 1_000_000
        result = client.embed([flat()] * 40)
        first = proxy.seen.qsize()
        again = client.embed([flat()] * 40)
        assert proxy.seen.qsize() - first == 8
    assert_same(result[:1], oracle(tiny_bundle, [flat()]))
    np.testing.assert_allclose(again.embedding, result.embedding, atol=1e-6)

"""Embedding in this process: each core takes some images of a batch, and every row stays where it was."""

import numpy as np

from tests.client.conftest import pictures
from vssl.bundle.reading import Bundle
from vssl.engine import Engine
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.inputs import decode_all


def test_a_batch_that_the_cores_share_is_embedded_as_a_whole_one_is(local: LocalEmbedder, tiny_bundle: Bundle) -> None:
    """70 images are several parts, and three of them can't be decoded."""
    images = pictures(70)
    images[0] = images[33] = images[69] = b"no picture"
    result = local.embed_batch(images)
    pixels, _ = decode_all(images, tiny_bundle.manifest.preprocessing)
    whole = Engine(tiny_bundle, threads=1)(pixels)

    assert np.flatnonzero(~result.ok).tolist() == [0, 33, 69]
    np.testing.assert_allclose(result.embedding[result.ok], whole.embedding, atol=1e-6)
    np.testing.assert_allclose(result.uncertainty[result.ok], whole.uncertainty, atol=1e-5)
    assert np.isnan(result.embedding[~result.ok]).all()


def test_a_batch_without_an_image_that_can_be_decoded(local: LocalEmbedder) -> None:
    assert local.embed_batch([b"none", b"nor this"]).ok.tolist() == [False, False]
    assert len(local.embed_batch([])) == 0

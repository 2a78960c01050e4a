"""A real server, images of every form, and what the engine alone makes of them."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from PIL import Image

from tests.client.processes import serving
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine
from vssl.images.decoding import decode
from vssl_client import Client, EmbeddingResult
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.exchange import retry
from vssl_client.parts.stored import StoredEmbeddings


@pytest.fixture(scope="session")
def server(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server of the tiny bundle, with galleries."""
    with serving(tiny_bundle.location, "--galleries", str(tmp_path_factory.mktemp("galleries"))) as url:
        yield url


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture(scope="session")
def local(tiny_bundle: Bundle) -> Iterator[LocalEmbedder]:
    with LocalEmbedder(tiny_bundle) as embedder:
        yield embedder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow one another at once."""
    monkeypatch.setattr(retry, "FIRST", 0.001)


def pictures(count: int, seed: int = 0) -> list[bytes]:
    """PNG files of several sizes, no two alike."""
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        height, width = rng.integers(8, 80, 2)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((int(width), int(height))).save(file, "PNG")
        files.append(file.getvalue())
    return files


def oracle(bundle: Bundle, images: Sequence[bytes]) -> Embeddings:
    """What the engine makes of images, one call for all."""
    return Engine(bundle)(np.stack([decode(image, bundle.manifest.preprocessing) for image in images]))


def assert_same(result: EmbeddingResult | StoredEmbeddings, expected: Embeddings) -> None:
    """Equal but for how the batches were cut, which changes the order of additions."""
    np.testing.assert_allclose(result.embedding, expected.embedding, atol=1e-6)
    np.testing.assert_allclose(result.variance, expected.variance, rtol=1e-5)
    np.testing.assert_allclose(result.uncertainty, expected.uncertainty, atol=1e-5)
    assert {result.embedding.dtype, result.variance.dtype, result.uncertainty.dtype} == {np.dtype(np.float32)}

"""How many threads an engine gets: half of the cores for a small model, all of them for its full batches."""

from typing import ClassVar

import numpy as np
import pytest

from vssl.bundle import Bundle
from vssl.engine import Embeddings, Engine
from vssl_server import serving
from vssl_server.batcher import Pixels
from vssl_server.serving import open_engine

FULL = 4


class Watched(Engine):
    """The real engine, which notes its threads and the images of each call."""

    calls: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self.threads = threads
        super().__init__(bundle, threads)

    def __call__(self, images: Pixels) -> Embeddings:
        self.calls.append((self.threads, len(images)))
        return super().__call__(images)


@pytest.mark.parametrize(
    ("threads", "cores", "small", "expected"),
    [
        (0, 8, True, [4, 0]),
        (0, 2, True, [1, 0]),
        (0, 1, True, [1, 1]),
        (0, 8, False, [0, 0]),
        (3, 8, True, [3, 3]),
    ],
)
def test_threads_follow_the_model_the_cores_and_the_batch(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, small: bool, expected: list[int]
) -> None:
    monkeypatch.setattr(serving, "Engine", Watched)
    monkeypatch.setattr(serving, "cores", lambda: cores)
    monkeypatch.setattr(serving, "is_small", lambda _: small)
    infer = open_engine(tiny_bundle, threads, FULL)
    Watched.calls = []
    size = tiny_bundle.manifest.preprocessing.size
    images = np.random.default_rng(0).integers(0, 256, (FULL, size, size, 3), np.uint8)
    part, whole = infer(images[:-1]), infer(images)
    assert Watched.calls == [(expected[0], FULL - 1), (expected[1], FULL)]
    np.testing.assert_allclose(part.embedding, whole.embedding[:-1], atol=1e-6)

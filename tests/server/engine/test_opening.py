"""How many threads an engine gets: half of the cores for a small model, all of them for its full batches; and one for
each core of a larger one, which takes its own images.
"""

import threading
from typing import ClassVar

import numpy as np
import pytest

import vssl.engine
from vssl.arrays import Pixels
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine
from vssl.errors import UsageError
from vssl_server.engine import opening as engines
from vssl_server.engine.jobs import Pulling
from vssl_server.engine.opening import SMALL_MODEL_SECONDS, open_engine

FULL, ALONE = 4, -1


class Watched(Engine):
    """The real engine, which notes its threads and the images of each call."""

    calls: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, bundle: Bundle, threads: int = 0, precision: Precision | None = "fp32") -> None:
        self.threads = threads
        super().__init__(bundle, threads, precision)

    def __call__(self, images: Pixels) -> Embeddings:
        self.calls.append((self.threads, len(images)))
        return super().__call__(images)

    def alone(self, images: Pixels) -> Embeddings:
        self.calls.append((ALONE, len(images)))
        return super().alone(images)


@pytest.mark.parametrize(
    ("threads", "cores", "small", "told", "expected", "pulled_by", "why"),
    [
        (0, 8, True, None, [4, 0], 1, "tiny is a small model (0.25 ms an image with one thread): 4 of 8 cores"),
        (0, 2, True, None, [1, 0], 1, "tiny is a small model (0.25 ms an image with one thread): 1 of 2 cores"),
        (0, 1, True, None, [1, 1], 1, ""),
        (0, 8, False, None, [0, 0], 8, "tiny is no small model (1 ms an image with one thread): all 8 cores"),
        (0, 8, False, True, [4, 0], 1, "tiny is a small model: 4 of 8 cores"),
        (0, 8, True, False, [0, 0], 8, "tiny is no small model: all 8 cores"),
        (3, 8, True, None, [3, 3], 3, ""),
    ],
)
def test_threads_follow_the_model_the_cores_and_the_batch(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    cores: int,
    small: bool,
    told: bool | None,
    expected: list[int],
    pulled_by: int,
    why: str,
) -> None:
    monkeypatch.setattr(engines, "Engine", Watched)
    for module in (engines, vssl.engine):
        monkeypatch.setattr(module, "cores", lambda: cores)
    seconds = SMALL_MODEL_SECONDS * (0.5 if small else 2)
    monkeypatch.setattr(engines, "seconds_an_image", lambda _: seconds)
    infer = open_engine(tiny_bundle, threads, FULL, told)
    assert infer.why.startswith(why)
    assert bool(infer.why) == bool(why)
    assert infer.provider == "cpu"
    assert [infer.threads["part"], infer.threads["full"]] == [threads or cores for threads in expected]
    Watched.calls = []
    size = tiny_bundle.manifest.preprocessing.size
    images = np.random.default_rng(0).integers(0, 256, (FULL, size, size, 3), np.uint8)
    part, whole = infer(images[:-1]), infer(images)
    assert Watched.calls == [(expected[0], FULL - 1), (expected[1], FULL)]
    assert infer.share().threads == pulled_by
    infer(images)
    assert Watched.calls[2:] == [(expected[1] if pulled_by == 1 else ALONE, FULL)]
    np.testing.assert_allclose(part.embedding, whole.embedding[:-1], atol=1e-6)


def test_a_single_image_has_all_cores_while_no_other_is_there(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, let = threading.Event(), threading.Event()

    class Held(Watched):
        def __call__(self, images: Pixels) -> Embeddings:
            inside.set()
            assert let.wait(60)
            return super().__call__(images)

    monkeypatch.setattr(engines, "Engine", Held)
    infer = open_engine(tiny_bundle, 2, FULL)
    assert infer.share() == Pulling(2, FULL // 2)
    size = tiny_bundle.manifest.preprocessing.size
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    Watched.calls, answers = [], list[Embeddings]()
    first = threading.Thread(target=lambda: answers.append(infer(image)))
    first.start()
    assert inside.wait(60)
    beside = infer(image)
    let.set()
    first.join(60)
    answers.append(infer(image))
    assert Watched.calls == [(ALONE, 1), (2, 1), (2, 1)]
    for answer in answers:
        np.testing.assert_allclose(answer.embedding, beside.embedding, atol=1e-6)


def test_a_gpu_has_two_batches_under_way(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    infer = open_engine(tiny_bundle, 1, FULL)
    assert infer.share() == Pulling(1, FULL)
    monkeypatch.setattr(Engine, "providers", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert infer.share() == Pulling(2, FULL, shared=False)


def test_the_precision_is_that_asked_for_and_one_that_the_bundle_lacks_is_refused(tiny_bundle: Bundle) -> None:
    assert open_engine(tiny_bundle, 1, FULL).precision == "fp32"
    with pytest.raises(UsageError, match="no model in int8; there are fp32"):
        open_engine(tiny_bundle, 1, FULL, precision="int8")

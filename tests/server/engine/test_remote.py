"""The two ends of a front's connection to the engine, both in this process, over a real socket and shared memory."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.conftest import GatedEngine
from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle
from vssl.engine import OUTPUTS, Embeddings, Engine
from vssl_server.engine.batcher import Batcher, Infer
from vssl_server.engine.jobs import BatchResult, EngineStoppedError, InferenceError
from vssl_server.engine.remote import channel
from vssl_server.engine.remote.batcher import RemoteBatcher
from vssl_server.engine.remote.channel import TooLongError
from vssl_server.engine.remote.fronts import Fronts, Model
from vssl_server.engine.remote.ring import Ring, Shape, new_memory
from vssl_server.wire.capacity import OverloadedError

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's memfd_create")
BUNDLE = "an id"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Noting(Batcher):
    """Remembers what was submitted."""

    def __init__(self, infer: Infer, max_batch: int, capacity: int) -> None:
        super().__init__(infer, max_batch, capacity)
        self.submitted: list[Future[BatchResult]] = []

    def submit(
        self,
        images: Sequence[Pixels],
        future: "Future[BatchResult] | None" = None,
        waited: float = 0.0,
        behind: bool = False,
    ) -> "Future[BatchResult]":
        self.submitted.append(super().submit(images, future, waited, behind))
        return self.submitted[-1]


class EngineSide:
    """What the engine process does, in threads of this one."""

    def __init__(self, listener: socket.socket, bundle: Bundle, infer: Infer, max_batch: int) -> None:
        manifest = bundle.manifest
        self.batcher = Noting(infer, max_batch, 1000)
        self.batcher.start()
        self.batcher.warm.result(60)
        self.fronts = Fronts({BUNDLE: Model(self.batcher, manifest.preprocessing.size, manifest.outputs.dimension)})
        threading.Thread(target=self.fronts.accept, args=(listener,), daemon=True).start()


@contextmanager
def connected(
    bundle: Bundle,
    folder: Path,
    infer: Infer,
    slots: int = 64,
    max_batch: int = 8,
    listen: Callable[[Path], socket.socket] = channel.listen,
) -> Iterator[tuple[EngineSide, RemoteBatcher]]:
    with listen(folder / "engine") as listener:
        engine = EngineSide(listener, bundle, infer, max_batch)
        shape = Shape(slots, bundle.manifest.preprocessing.size, bundle.manifest.outputs.dimension)
        front = RemoteBatcher(folder / "engine", BUNDLE, max_batch, shape)
        front.start()
        front.warm.result(60)
        try:
            yield engine, front
        finally:
            front.close(60)
            assert engine.fronts.wait(60)
            engine.batcher.close(60)
            listener.shutdown(socket.SHUT_RDWR)


def pictures(bundle: Bundle, images: int, seed: int = 0) -> list[Pixels]:
    size = bundle.manifest.preprocessing.size
    return list(np.random.default_rng(seed).integers(0, 255, (images, size, size, 3), np.uint8))


def assert_right(bundle: Bundle, images: Sequence[Pixels], found: Embeddings) -> None:
    truth = Engine(bundle)(np.stack(images))
    for name in OUTPUTS:
        np.testing.assert_allclose(getattr(found, name), getattr(truth, name), atol=1e-6)


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 40), st.data())
def test_a_slot_gives_what_was_put_there(size: int, dimension: int, data: st.DataObject) -> None:
    shape = Shape(8, size, dimension)
    slots = data.draw(st.permutations(range(8)))
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 255, (8, size, size, 3), np.uint8))
    rows = Embeddings(*(rng.random(shape, np.float32) for shape in ((8, dimension), (8, dimension), (8,))))
    memory = new_memory(shape)
    ours, theirs = Ring(memory, shape), Ring(memory, shape)
    ours.put_images(slots, images)
    np.testing.assert_array_equal(theirs.images(slots), images)
    theirs.put_rows(slots, rows)
    for name in OUTPUTS:
        np.testing.assert_array_equal(getattr(ours.rows(slots), name), getattr(rows, name))


class Crowded(socket.socket):
    """Too many files are open when it is asked first."""

    tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def crowded(path: Path) -> socket.socket:
    listener = Crowded(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_a_moment_without_free_files_ends_nothing(
    tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = pictures(tiny_bundle, 2)
    with connected(tiny_bundle, tmp_path, Engine(tiny_bundle), listen=crowded) as (_, front):
        assert_right(tiny_bundle, images, front.submit(images).result(60).embeddings)
    assert "can't connect yet: [Errno 24]" in caplog.text


def test_every_request_gets_its_own_rows_in_its_own_order(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with connected(tiny_bundle, tmp_path, Engine(tiny_bundle), slots=200) as (_, front):
        requests = [pictures(tiny_bundle, images, seed=images) for images in (1, 3, 20, 2, 8, 9, 1, 30)]
        with ThreadPoolExecutor(4) as pool:  # any thread may submit
            answers = [future.result(60) for future in list(pool.map(front.submit, requests))]
        for images, answer in zip(requests, answers, strict=True):
            assert_right(tiny_bundle, images, answer.embeddings)
            assert answer.inference_seconds > 0


def test_what_goes_behind_waits_for_all_others(tiny_bundle: Bundle, tmp_path: Path) -> None:
    gate = GatedEngine(tiny_bundle)
    with connected(tiny_bundle, tmp_path, gate, max_batch=1) as (engine, front):
        first, behind, other = (pictures(tiny_bundle, 1, seed) for seed in range(3))
        futures = [front.submit(first)]
        assert gate.entered.acquire(timeout=60)
        futures += [front.submit(behind, behind=True), front.submit(other)]
        until(lambda: len(engine.batcher.submitted) == 3)
        gate.let.release(3)
        for future in futures:
            future.result(60)
        np.testing.assert_array_equal([batch[0] for batch in gate.batches], [first[0], other[0], behind[0]])


def test_cancelling_drops_what_waits_and_frees_its_slots(tiny_bundle: Bundle, tmp_path: Path) -> None:
    gate = GatedEngine(tiny_bundle)
    with connected(tiny_bundle, tmp_path, gate, slots=4, max_batch=1) as (engine, front):
        busy = front.submit(pictures(tiny_bundle, 1))
        assert gate.entered.acquire(timeout=60)
        waiting = front.submit(pictures(tiny_bundle, 3))
        with pytest.raises(OverloadedError):
            front.submit(pictures(tiny_bundle, 1))
        until(lambda: len(engine.batcher.submitted) == 2)
        assert waiting.cancel()
        until(engine.batcher.submitted[1].cancelled)

        images = pictures(tiny_bundle, 3, seed=5)
        found: list[Future[BatchResult]] = []

        def again() -> bool:
            try:
                found.append(front.submit(images))
            except OverloadedError:  # the engine's word that the slots are free is on its way
                return False
            return True

        until(again)
        gate.let.release(4)
        busy.result(60)
        assert_right(tiny_bundle, images, found[0].result(60).embeddings)
        assert len(gate.batches) == 4  # the cancelled ones never got there


def test_a_request_at_fault_fails_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    engine = Engine(tiny_bundle)

    def infer(images: Pixels) -> Embeddings:
        if any((image == 255).all() for image in images):
            raise ValueError("white")
        return engine(images)

    with connected(tiny_bundle, tmp_path, infer) as (_, front):
        white = front.submit([np.full_like(pictures(tiny_bundle, 1)[0], 255)])
        images = pictures(tiny_bundle, 2)
        good = front.submit(images)
        with pytest.raises(InferenceError, match="white"):
            white.result(60)
        assert_right(tiny_bundle, images, good.result(60).embeddings)


def test_a_front_that_is_gone_leaves_no_work(tiny_bundle: Bundle, tmp_path: Path) -> None:
    gate = GatedEngine(tiny_bundle)
    with connected(tiny_bundle, tmp_path, gate, max_batch=1) as (engine, front):
        lost = [front.submit(pictures(tiny_bundle, 1, seed)) for seed in range(3)]
        assert gate.entered.acquire(timeout=60)
        until(lambda: len(engine.batcher.submitted) == 3)
        front.close(60)
        for future in lost:
            with pytest.raises(EngineStoppedError):
                future.result(60)
        assert engine.fronts.wait(60)
        assert all(future.cancelled() for future in engine.batcher.submitted)
        gate.let.release()
        with pytest.raises(EngineStoppedError):
            front.submit(pictures(tiny_bundle, 1))


def test_a_bundle_that_the_engine_does_not_run_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with connected(tiny_bundle, tmp_path, Engine(tiny_bundle)):
        other = RemoteBatcher(tmp_path / "engine", "another id", 8, Shape(8, 8, 8))
        other.start()
        with pytest.raises(EngineStoppedError, match="changed since the start"):
            other.warm.result(60)
        until(lambda: other.health.unanswered > 0)
        other.close(60)


def send_many(ours: channel.Channel) -> None:
    for _ in range(1000):  # the other side's queue is full long before
        ours.send("cancel", "x" * 10_000)


def test_no_message_waits_for_a_side_that_does_not_read(tmp_path: Path) -> None:
    with channel.listen(tmp_path / "engine") as listener:
        ours = channel.connect(tmp_path / "engine")
        with listener.accept()[0]:
            with pytest.raises(TooLongError):
                ours.send("submit", "x" * channel.MOST_BYTES)
            with pytest.raises(OSError, match="temporarily"):
                send_many(ours)
            with pytest.raises(EOFError):
                ours.receive()
        ours.close()

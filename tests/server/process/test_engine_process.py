"""Front processes that share one engine process: their answers, what they hold, and either side killed during load."""

import os
import shutil
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx2
import numpy as np
import pytest

from tests.server.conftest import expected, png
from tests.server.process.test_serve import Server, failed, running
from tests.server.process.test_workers import PNG, children, gone, until
from vssl.bundle.reading import Bundle

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
FLAGS = ["--workers", "2", "--engine-process"]


def engine_of(server: Server) -> int | None:
    """The process that has loaded ONNX Runtime, if it has; there is never more than one."""
    found = []
    for pid in children(server):
        with suppress(OSError):  # it has ended meanwhile
            if "onnxruntime" in Path(f"/proc/{pid}/maps").read_text():
                found.append(pid)
    assert len(found) <= 1
    return found[0] if found else None


class Load(threading.Thread):
    """Asks for one image after the other, each over a connection of its own; right answers are compared bit for bit."""

    def __init__(self, server: Server, bundle: Bundle, shade: int) -> None:
        super().__init__()
        self.url, self.image = f"{server.url}/v1/embed", png(shade)
        self.right = expected(bundle, [self.image]).embedding[0]
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.is_set():
            try:
                answer = httpx2.post(self.url, content=self.image, headers=PNG, timeout=60)
            except httpx2.TimeoutException:
                self.wrong.append("no answer within a minute")
                continue
            except httpx2.TransportError:  # its front was killed
                self.seen["connection"] += 1
                continue
            self.seen[str(answer.status_code)] += 1
            if answer.status_code == 200:
                if not np.allclose(answer.json()["data"][0]["embedding"], self.right, atol=1e-6):
                    self.wrong.append("another image's embedding")
            elif answer.status_code != 503 or "Retry-After" not in answer.headers:
                self.wrong.append(f"{answer.status_code} {answer.text}")


def survives(server: Server, bundle: Bundle, kills: int) -> Counter[str]:
    """Kill the engine and a front in turn during load; each time all must go on as before. What was answered."""
    loads = [Load(server, bundle, shade) for shade in (9, 90, 190)]
    for load in loads:
        load.start()
    try:
        for number in range(kills):
            until(lambda: engine_of(server) is not None and len(children(server)) == 3)
            engine = engine_of(server)
            assert engine is not None
            answered = [load.seen["200"] for load in loads]
            until(lambda: all(load.seen["200"] > before for load, before in zip(loads, answered, strict=True)))  # noqa: B023
            front = max(children(server) - {engine})
            victim = engine if number % 2 == 0 else front
            os.kill(victim, signal.SIGKILL)
            until(lambda: gone(victim))  # noqa: B023
        until(lambda: len(children(server)) == 3 and httpx2.get(f"{server.url}/readyz").status_code == 200)
        answered = [load.seen["200"] for load in loads]
        until(lambda: all(load.seen["200"] > before for load, before in zip(loads, answered, strict=True)))
    finally:
        for load in loads:
            load.end.set()
        for load in loads:
            load.join(120)
    assert not any(load.is_alive() for load in loads)
    assert [load.wrong for load in loads] == [[], [], []]
    return sum((load.seen for load in loads), Counter())


def test_answers_are_the_same_and_the_model_is_loaded_once(tiny_bundle: Bundle) -> None:
    files = [png(shade) for shade in (9, 99, 199)]
    truth = expected(tiny_bundle, files)
    with running(tiny_bundle.location, *FLAGS) as server:
        assert len(children(server)) == 3
        assert engine_of(server) is not None
        for _ in range(4):  # a connection each, so that the kernel deals them out
            parts = [("images", ("a.png", file, "image/png")) for file in files]
            rows = httpx2.post(f"{server.url}/v1/embed", files=parts).json()["data"]
            for row, (embedding, uncertainty) in zip(
                rows, zip(truth.embedding, truth.uncertainty, strict=True), strict=True
            ):
                np.testing.assert_allclose(row["embedding"], embedding, atol=1e-6)
                assert row["uncertainty"] == pytest.approx(float(uncertainty), abs=1e-6)
        shown = httpx2.get(f"{server.url}/metrics").text
        assert 'vssl_images_total{model="tiny",outcome="embedded"} 12.0' in shown
        assert 'vssl_batch_images_sum{model="tiny"} 12.0' in shown  # counted where the engine is
        assert 'vssl_model_info{model="tiny",precision="fp32",provider="cpu",version="1"} 1.0' in shown
        assert 'vssl_ready{model="tiny",version="1"} 1.0' in shown
        assert survives(server, tiny_bundle, 2)["200"] > 0
        written = server.stop(signal.SIGTERM)
        assert "the engine process ended with status -9; another takes its place" in written
        assert "a worker ended with status -9; another takes its place" in written
        assert "Traceback" not in written


@pytest.mark.slow
def test_either_side_killed_again_and_again(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, *FLAGS) as server:
        seen = survives(server, tiny_bundle, 20)
        assert seen["200"] > 60
        assert "Traceback" not in server.stop(signal.SIGTERM)


def test_all_end_with_the_process_that_started_them(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, *FLAGS[:1], "1", FLAGS[2]) as server:
        pids = children(server)
        assert len(pids) == 2
        server.process.kill()
        until(lambda: all(map(gone, pids)))


def test_what_cannot_be_is_one_line(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("admin\n")
    status, written = failed(tiny_bundle.location, FLAGS[2], "--admin-keys-file", str(tmp_path / "keys"))
    assert (status, "--engine-process and --admin-keys-file" in written) == (2, True)
    status, written = failed(tiny_bundle.location, FLAGS[2], "--uds", str(tmp_path / "socket"))
    assert (status, "--engine-process and --uds" in written) == (2, True)


def test_a_bundle_that_broke_meanwhile_ends_the_command(tiny_bundle: Bundle, tmp_path: Path) -> None:
    location = shutil.copytree(tiny_bundle.location, tmp_path / "tiny")
    with running(location, FLAGS[2]) as server:
        (location / "model.onnx").write_bytes(b"changed")
        engine = engine_of(server)
        assert engine is not None
        os.kill(engine, signal.SIGKILL)
        _, written = server.process.communicate(timeout=120)
    assert server.process.returncode == 1
    assert "model.onnx" in written.splitlines()[-1]

"""Several processes behind one port: their answers, metrics and ends."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from tests.server.conftest import expected, png
from tests.server.process.test_serve import Server, failed, read_answer, running
from vssl.bundle.reading import Bundle

PNG = {"Content-Type": "image/png"}
WORKERS = ["--workers", "2"]


def children(server: Server) -> set[int]:
    """The processes that serve; the tracker of multiprocessing's resources is none of them."""
    listed = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return {int(pid) for pid in listed if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


def test_answers_and_counts_of_both_and_the_end_of_all(tiny_bundle: Bundle) -> None:
    truth = expected(tiny_bundle, [png(9)])
    with running(tiny_bundle.location, *WORKERS) as server:
        pids = children(server)
        assert len(pids) == 2
        for _ in range(24):  # a connection each, so that the kernel deals them out
            answer = httpx2.post(f"{server.url}/v1/embed", content=png(9), headers=PNG)
            np.testing.assert_allclose(answer.json()["data"][0]["embedding"], truth.embedding[0], atol=1e-6)
        shown = httpx2.get(f"{server.url}/metrics").text
        assert 'vssl_images_total{model="tiny",outcome="embedded"} 24.0' in shown
        assert 'vssl_requests_total{path="/v1/embed",status="200"} 24.0' in shown
        assert 'vssl_ready{model="tiny",version="1"} 1.0' in shown
        assert len(set(re.findall(r'vssl_queue_images\{model="tiny",version="1"\} (\S+)', shown))) == 1
        data = png(9)
        head = f"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(data)}\r\n"
        with socket.create_connection(server.address, timeout=60) as connection:
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # one of them waits for the body
            server.process.send_signal(signal.SIGTERM)
            until(lambda: sum(map(gone, pids)) == 1)  # the one that has nothing to do
            connection.sendall(data)
            assert read_answer(connection)[0] == 200
        assert server.ended() == ""
        assert all(map(gone, pids))


def test_a_worker_that_dies_is_replaced(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, *WORKERS) as server:
        [victim, other] = children(server)
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(children(server) - {victim, other}) == 1)
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        written = server.stop(signal.SIGTERM)
        assert "a worker ended with status -9; another takes its place" in written


def test_they_end_with_the_process_that_started_them(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, *WORKERS) as server:
        pids = children(server)
        server.process.kill()
        until(lambda: all(map(gone, pids)))


def test_over_grpc(tiny_bundle: Bundle) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    with running(tiny_bundle.location, *WORKERS, "--grpc-port", "0") as server:
        image = triton.InferInput("image", [1, 1], "BYTES")
        image.set_data_from_numpy(np.array([[png(9)]], np.object_))
        with triton.InferenceServerClient(server.line.partition("grpc://")[2].strip()) as client:
            found = client.infer("tiny_image", [image]).as_numpy("embedding")
        np.testing.assert_allclose(found, expected(tiny_bundle, [png(9)]).embedding, atol=1e-6)
        assert server.stop(signal.SIGTERM) == ""


def test_what_cannot_be_is_one_line(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("admin\n")
    status, written = failed(tiny_bundle.location, *WORKERS, "--admin-keys-file", str(tmp_path / "keys"))
    assert (status, "--workers and --admin-keys-file" in written) == (2, True)
    with running(tiny_bundle.location, *WORKERS) as server:
        status, written = failed(tiny_bundle.location, *WORKERS, "--port", str(server.address[1]))
    assert (status, "Address already in use" in written) == (1, True)
    (tmp_path / "empty").write_text("")
    status, written = failed(tiny_bundle.location, *WORKERS, "--api-keys-file", str(tmp_path / "empty"), "--port", "0")
    assert (status, "holds no key" in written) == (1, True)

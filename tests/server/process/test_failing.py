"""Engines that fail on everything, or hang: red where one looks, the others go on, and a process that can't answer
ends."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.paths import ROOT
from tests.server.conftest import png
from tests.server.process.test_serve import Server
from tests.server.process.test_workers import children, until
from tests.tiny_model import write_tiny_bundle

SERVER = ROOT / "tests" / "server" / "sick_server.py"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("one", "two"):
        write_tiny_bundle(folder / name, name)
    return folder


@contextmanager
def running(orders: Path, bundles: list[Path], *flags: str) -> Iterator[Server]:
    command = [sys.executable, str(SERVER), "serve", *map(str, bundles), "--port", "0", *flags]
    named = os.environ | {"SICK": str(orders)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=named) as process:
        assert process.stderr is not None
        try:
            yield Server(process, process.stderr.readline())
        finally:
            process.kill()


def embed(server: Server, model: str) -> int:
    return httpx2.post(f"{server.url}/v1/embed?model={model}", content=png(7), headers=PNG, timeout=60).status_code


def ready(server: Server, path: str) -> int:
    return httpx2.get(f"{server.url}{path}", timeout=60).status_code


def fall_ill(server: Server, orders: Path, name: str, what: str) -> Callable[[], bool]:
    (orders / name).write_text(what)
    return lambda: embed(server, name) == 503


@pytest.mark.parametrize("what", ["raise", pytest.param("hang", marks=pytest.mark.slow)])
def test_one_model_fails_and_the_others_go_on(bundles: Path, tmp_path: Path, what: str) -> None:
    flags = ["--deadline-seconds", "0.2"] if what == "hang" else []
    with running(tmp_path, [bundles / "one", bundles / "two"], "--grpc-port", "0", *flags) as server:
        assert (embed(server, "one"), embed(server, "two")) == (200, 200)
        until(fall_ill(server, tmp_path, "one", what))
        assert embed(server, "two") == 200
        state = httpx2.get(f"{server.url}/readyz")
        assert (state.status_code, state.json()) == (200, {"status": "ready", "failed": ["one 1"]})
        assert [ready(server, f"/v2/models/{name}/ready") for name in ("one", "one_image", "two")] == [503, 503, 200]
        assert ready(server, "/v2/health/ready") == 200
        shown = httpx2.get(f"{server.url}/metrics").text.splitlines()
        assert {line for line in shown if line.startswith("vssl_ready{")} == {
            'vssl_ready{model="one",version="1"} 0.0',
            'vssl_ready{model="two",version="1"} 1.0',
        }
        over_grpc(server)
        if what == "raise":  # a blank image is tried now and then, whether or not anybody asks
            (tmp_path / "one").unlink()
            until(lambda: ready(server, "/v2/models/one/ready") == 200)
            assert embed(server, "one") == 200
            assert httpx2.get(f"{server.url}/readyz").json() == {"status": "ready"}


def over_grpc(server: Server) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    with triton.InferenceServerClient(server.line.partition("grpc://")[2].strip()) as client:
        assert client.is_server_ready()
        assert [client.is_model_ready(name) for name in ("one", "two_image")] == [False, True]


@pytest.mark.parametrize("what", [pytest.param("raise", marks=pytest.mark.slow), "hang"])
def test_a_process_whose_models_have_all_failed_for_long_ends(bundles: Path, tmp_path: Path, what: str) -> None:
    flags = ["--deadline-seconds", "0.2"] if what == "hang" else []
    with running(tmp_path, [bundles / "one"], *flags) as server:
        (tmp_path / "one").write_text(what)
        answers = [embed(server, "one") for _ in range(3 if what == "raise" else 1)]
        assert set(answers) <= ({500} if what == "raise" else {504})
        _, written = server.process.communicate(timeout=60)
    assert server.process.returncode == 1
    assert "vssl: no model has answered for" in written
    assert "CancelledError" not in written


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_worker_whose_engine_fails_is_replaced(bundles: Path, tmp_path: Path) -> None:
    with running(tmp_path, [bundles / "one"], "--workers", "2") as server:
        [victim, other] = children(server)
        (tmp_path / "one").write_text(f"raise {victim}")

        def gone() -> bool:
            with suppress(httpx2.TransportError):  # one that ends takes its connections with it
                assert embed(server, "one") in (200, 500, 503)
            return victim not in children(server)

        until(gone)
        until(lambda: len(children(server) - {other}) == 1)
        assert embed(server, "one") == 200
        written = server.stop(15)
    assert "a worker: no model has answered for" in written
    assert "a worker ended with status 1; another takes its place" in written

"""A server listens before its models are loaded: alive, not ready, and gone at once when it is told to end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.ports import free_port
from tests.server.conftest import png
from tests.server.process.test_failing import PNG, SERVER
from tests.server.process.test_serve import Server
from tests.server.process.test_workers import children, until
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle, open_bundle

WAYS = {
    "alone": [],
    "workers": ["--workers", "2"],
    "engine process": ["--workers", "2", "--engine-process"],
}
several = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_tiny_bundle(tmp_path / "bundle", "one")
    return open_bundle(tmp_path / "bundle")


def starting(orders: Path, bundle: Bundle, *flags: str) -> "subprocess.Popen[str]":
    """A server that loads for as long as the file `one.loads` is there."""
    (orders / "one.loads").touch()
    command = [sys.executable, str(SERVER), "serve", str(bundle.location), *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"SICK": str(orders)})


@contextmanager
def loading(orders: Path, bundle: Bundle, *flags: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server that listens and loads for as long as its file is there, and its address."""
    port = free_port()
    with starting(orders, bundle, "--port", str(port), *flags) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: state(url) == "loading")
            yield process, url
        finally:
            process.kill()


def state(url: str) -> str | None:
    """What `/readyz` says; None where nobody listens."""
    with suppress(httpx2.TransportError):
        return str(httpx2.get(f"{url}/readyz", timeout=60).json()["status"])
    return None


def embed(url: str) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/embed", content=png(7), headers=PNG, timeout=60)


@several
@pytest.mark.parametrize("way", WAYS)
def test_while_it_loads_it_is_alive_and_asks_to_come_again(bundle: Bundle, tmp_path: Path, way: str) -> None:
    with loading(tmp_path, bundle, *WAYS[way]) as (process, url):
        assert httpx2.get(f"{url}/healthz", timeout=60).status_code == 200
        refused = embed(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert "loading" in refused.json()["error"]["message"]
        assert refused.headers["Retry-After"] == "1"
        assert [one["id"] for one in httpx2.get(f"{url}/v1/models", timeout=60).json()["data"]] == ["one"]
        for path in ("/v2/health/ready", "/v2/models/one/ready", "/readyz"):
            assert httpx2.get(f"{url}{path}", timeout=60).status_code == 503
        (tmp_path / "one.loads").unlink()
        assert process.stderr is not None
        assert "serving one on" in process.stderr.readline()
        assert state(url) == "ready"
        assert embed(url).status_code == 200
        assert 'vssl_model_info{model="one",precision="fp32"' in httpx2.get(f"{url}/metrics", timeout=60).text


def test_grpc_says_so_too(bundle: Bundle, tmp_path: Path) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    port = free_port()
    with (
        loading(tmp_path, bundle, "--grpc-port", str(port)) as (process, _),
        triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready("one")
        (tmp_path / "one.loads").unlink()
        assert process.stderr is not None
        assert "serving one on" in process.stderr.readline()
        assert client.is_model_ready("one")


@several
@pytest.mark.parametrize("way", WAYS)
def test_told_to_end_while_it_loads_it_ends(bundle: Bundle, tmp_path: Path, way: str) -> None:
    for _ in range(3 if way == "alone" else 1):  # ended below a load that goes on, an interpreter aborts now and then
        with loading(tmp_path, bundle, *WAYS[way]) as (process, _):
            process.send_signal(signal.SIGTERM)
            _, written = process.communicate(timeout=60)
            assert (process.returncode, written) == (0, "")


@several
def test_a_worker_that_takes_anothers_place_listens_when_it_can_answer(bundle: Bundle, tmp_path: Path) -> None:
    with loading(tmp_path, bundle, *WAYS["workers"]) as (process, url):
        (tmp_path / "one.loads").unlink()
        assert process.stderr is not None
        server = Server(process, process.stderr.readline())
        (tmp_path / "one.loads").touch()
        victim = min(children(server))
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in (now := children(server)) and len(now) == 2)
        for _ in range(20):  # new connections: some would come to one that listened
            with suppress(httpx2.TransportError):  # one that was given to the victim
                assert embed(url).status_code == 200
        (tmp_path / "one.loads").unlink()
        assert server.stop(signal.SIGTERM).count("another takes its place") == 1


@several
@pytest.mark.parametrize("way", ["alone", "engine process"])
def test_a_model_that_fails_ends_the_start_though_another_is_still_loaded(
    bundle: Bundle, tmp_path: Path, way: str
) -> None:
    write_tiny_bundle(tmp_path / "other", "two")
    (tmp_path / "two").write_text("raise")
    with starting(tmp_path, bundle, str(tmp_path / "other"), "--port", "0", *WAYS[way]) as process:
        _, written = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the engine could not be warmed up: an illegal memory access was encountered" in written

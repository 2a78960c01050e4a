"""A real Triton Inference Server, as `nvidia-pytriton` ships it, on 127.0.0.1 and free ports."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT
from tests.ports import free_port

VENV = ROOT / ".venv-triton"
STAND_IN = Path(__file__).parent / "triton" / "stand_in"


class TritonFailedError(Exception):
    """The server ended before it was ready; the message is its log."""


@dataclass(frozen=True)
class Triton:
    """Addresses of a running server."""

    http: str
    grpc: str
    metrics: str


@contextmanager
def running(repository: Path, scratch: Path) -> Iterator[Triton]:
    """Start a server on a model repository and stop it afterwards.

    Raises:
        TritonFailedError: a model did not load, or the server did not start.
    """
    ports = [free_port() for _ in range(3)]
    python = next((VENV / "lib").glob("python3.*"))
    packages = python / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    base = subprocess.run(
        [VENV / "bin" / "python", "-c", "import sys; print(sys.base_prefix)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    backends = scratch / "backends"
    prepare_backends(server, python.name.removeprefix("python"), backends)
    command = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={server / 'caches'}",
        "--http-address=127.0.0.1",
        f"--http-port={ports[0]}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports[1]}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={ports[2]}",
    ]
    environment = {
        **os.environ,
        "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{base}/lib",
    }
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log: list[str] = []
    ready = threading.Event()

    def follow() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            log.append(line)
            # The last service to start; it starts after every model has loaded.
            if "Started Metrics Service" in line:
                ready.set()
        ready.set()

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        if not ready.wait(timeout=120) or process.poll() is not None or not any("Metrics Service" in x for x in log):
            process.kill()
            follower.join()
            raise TritonFailedError("".join(log))
        yield Triton(*(f"127.0.0.1:{port}" for port in ports))
    finally:
        process.terminate()
        process.wait()
        follower.join()
        assert process.stdout is not None
        process.stdout.close()


def prepare_backends(server: Path, version: str, backends: Path) -> None:
    """Triton's Python backend, and the stand-in for onnxruntime that is run by it."""
    python = backends / "python"
    shutil.copytree(server / "backends" / "python", python, symlinks=False, ignore_dangling_symlinks=True)
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, python / stub.name)
    shutil.copytree(STAND_IN / "onnxruntime", backends / "onnxruntime", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("libtriton_python.so", "triton_python_backend_utils.py", stub.name):
        shutil.copy(python / name, backends / "onnxruntime" / name)

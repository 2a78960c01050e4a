"""The servers that `benchmarks.serving` measures, and one JPEG in the forms that each of them takes."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from benchmarks.peers.encoder import BUNDLE
from benchmarks.served import listening
from vssl.bundle.reading import open_bundle

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin"
TRITON = ROOT / ".venv-triton"
MANY = 64
"""Images of a large request."""


@dataclass(frozen=True)
class Body:
    """A request's body in a file, its type, and headers beside it."""

    file: Path
    kind: str
    headers: Sequence[str] = ()


@dataclass(frozen=True)
class Server:
    """A process that listens, and where and how it is asked for one image and for many."""

    pid: int
    asked: dict[int, tuple[str, Body]] = field(repr=False)


Start = Callable[[], AbstractContextManager[Server]]


@dataclass(frozen=True)
class Bodies:
    """One JPEG, and the same `MANY` times, in the forms that the servers take."""

    data: bytes
    folder: Path

    def raw(self, *headers: str) -> Body:
        """The JPEG as it is."""
        return self._write("raw", self.data, "image/jpeg", headers)

    def multipart(self) -> Body:
        """Many files of a form."""
        head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
        content = (head + self.data + b"\r\n") * MANY + b"--x--\r\n"
        return self._write("multipart", content, "multipart/form-data; boundary=x")

    def json(self, images: int) -> Body:
        """Base64 in a list."""
        content = {"images": [base64.b64encode(self.data).decode()] * images}
        return self._write(f"json{images}", json.dumps(content).encode(), "application/json")

    def tensor(self) -> Body:
        """Many as a binary tensor of the Open Inference Protocol."""
        elements = (len(self.data).to_bytes(4, "little") + self.data) * MANY
        size = {"binary_data_size": len(elements)}
        tensor = {"name": "image", "shape": [MANY, 1], "datatype": "BYTES", "parameters": size}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        length = f"Inference-Header-Content-Length: {len(head)}"
        return self._write("tensor", head + elements, "application/octet-stream", [length])

    def _write(self, name: str, content: bytes, kind: str, headers: Sequence[str] = ()) -> Body:
        (self.folder / name).write_bytes(content)
        return Body(self.folder / name, kind, headers)


def servers(bundle: Path, bodies: Bodies, folder: Path) -> dict[str, Start]:
    """What is installed here, by name."""
    raw, many = bodies.raw(), bodies.multipart()

    @contextmanager
    def local(command: list[str], one: str, several: str) -> Iterator[Server]:
        with listening([sys.executable, "-m", *command]) as server:
            yield Server(server.pid, {1: (server.url + one, raw), MANY: (server.url + several, many)})

    @contextmanager
    def peer(command: list[str], path: str) -> Iterator[Server]:
        port = free_port()
        environment = {**os.environ, BUNDLE: str(bundle), "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"}
        environment["BENTOML_DO_NOT_TRACK"] = environment["LITSERVE_DISABLE_ANALYTICS"] = "1"
        url = f"http://127.0.0.1:{port}{path}"
        with subprocess.Popen(
            [*command, str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                wait_for(url, bodies.json(1))
                yield Server(process.pid, {count: (url, bodies.json(count)) for count in (1, MANY)})
            finally:
                process.terminate()  # BentoML ends its workers, LitServe leaves them
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    @contextmanager
    def triton() -> Iterator[Server]:
        from tests.export.triton_server import running
        from vssl_export.triton.repository import write_repository

        opened = open_bundle(bundle)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            repository = Path(scratch, "models")
            write_repository(opened, repository, False)
            for config in repository.rglob("config.pbtxt"):
                text = config.read_text()
                config.write_text(re.sub(r"max_batch_size: \d+", f"max_batch_size: {MANY}", text))
            with running(repository, Path(scratch)) as found:
                url = f"http://{found.http}/v2/models/{opened.manifest.name}_image/infer"
                one = bodies.raw("Inference-Header-Content-Length: 0")
                wait_for(url, one)
                yield Server(process_of(repository), {1: (url, one), MANY: (url, bodies.tensor())})

    plain = ["benchmarks.peers.plain_fastapi", str(bundle)]
    found: dict[str, Start] = {
        "vssl serve": lambda: local(["vssl.cli", "serve", str(bundle), "--port", "0"], *["/v1/embed"] * 2),
        "plain FastAPI": lambda: local(plain, "/one", "/many"),
        "plain FastAPI, our session": lambda: local([*plain, "ours"], "/one", "/many"),
    }
    if PEERS.exists():
        bento = [str(PEERS / "bentoml"), "serve", "benchmarks.peers.bento:Embedder", "--port"]
        found["LitServe"] = lambda: peer([str(PEERS / "python"), "-m", "benchmarks.peers.lit_serve"], "/predict")
        found["BentoML"] = lambda: peer(bento, "/embed")
    if TRITON.exists():
        found["Triton, Python backend"] = triton
    return found


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def wait_for(url: str, body: Body) -> None:
    """Ask until the answer is 200, two minutes at most."""
    headers = {"Content-Type": body.kind} | dict(header.split(": ") for header in body.headers)
    answer = "no answer"
    for _ in range(240):
        try:
            found = httpx2.post(url, content=body.file.read_bytes(), headers=headers, timeout=10)
            answer = f"{found.status_code} {found.text[:300]}"
            if found.status_code == 200:
                return
        except httpx2.TransportError as error:
            answer = str(error)
        time.sleep(0.5)
    raise SystemExit(f"{url} never answered: {answer}")


def process_of(argument: Path) -> int:
    """The process whose command line names this path."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"={argument}\0" in (folder / "cmdline").read_text():
                return int(folder.name)
        except OSError:
            continue
    raise SystemExit(f"no process works on {argument}")

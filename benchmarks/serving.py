"""Our server beside plain FastAPI, LitServe, BentoML and Triton, and the bare loop that is the limit of all of them.

The same ONNX file, the same decoding, the same JPEG, the same load generator (`hey` from Debian) on the same machine.
The bare loop decodes and infers without any server. Each server runs alone, round after round; medians over the rounds
are shown. CPU time per image is what a busy machine changes least. The bare loop has the cores to itself, the servers
share them with `hey`: no server could come closer to it than that leaves. The peers run as their documentation shows
it, with ONNX Runtime's defaults; "plain FastAPI, our session" has our session's options. LitServe and BentoML take
base64 in JSON. `make peers` and `make test-triton` install them; what is not there is left out.
"""

import base64
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image

from benchmarks.embed_folder import small_bundle
from benchmarks.large_encoder import large_bundle
from benchmarks.peers.encoder import BUNDLE
from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.served import listening
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.decoding import decode

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin"
TRITON = ROOT / ".venv-triton"
BATCH = 32
MANY = 64


@dataclass(frozen=True)
class Load:
    """What `hey` sends: `images` a request, from `concurrency` connections."""

    images: int
    concurrency: int


LOADS = [Load(1, 1), Load(1, 8), Load(1, 32), Load(1, 128), Load(MANY, 4)]


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


def ask(server: Server, load: Load, seconds: float) -> Row:
    """Images/s, latencies in milliseconds, how many answers were none, and the CPU time that an image took server and
    `hey`, which share the machine's cores.
    """
    url, body = server.asked[load.images]
    command = ["hey", "-z", f"{seconds}s", "-c", str(load.concurrency), "-o", "csv", "-m", "POST", "-T", body.kind]
    for header in body.headers:
        command += ["-H", header]
    before, client_before = cpu_seconds(server.pid), os.times()
    done = subprocess.run([*command, "-D", str(body.file), url], check=True, capture_output=True, text=True)
    used, client = cpu_seconds(server.pid) - before, os.times()
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    good = sorted(float(row["response-time"]) for row in rows if row["status-code"] == "200")
    # hey leaves failed connections out of its table: they show as fewer images a second.
    row: Row = {"images_per_second": len(good) * load.images / seconds, "errors": len(rows) - len(good)}
    if good:
        images = len(good) * load.images
        row["cpu_us"] = 1e6 * used / images
        waited = client.children_user + client.children_system
        row["hey_cpu_us"] = 1e6 * (waited - client_before.children_user - client_before.children_system) / images
        row["p50_ms"] = 1000 * good[len(good) // 2]
        row["p99_ms"] = 1000 * good[min(len(good) - 1, len(good) * 99 // 100)]
    return row


def bare_loop(location: Path, data: bytes, seconds: float) -> Row:
    """Decode in two threads and infer, batch after batch."""
    bundle = open_bundle(location)
    engine = Engine(bundle)

    def work(_: int) -> int:
        return len(engine(np.stack([decode(data, bundle.manifest.preprocessing) for _ in range(BATCH)])))

    begun, images = time.monotonic(), 0
    with ThreadPoolExecutor(2) as pool:
        while time.monotonic() - begun < seconds:
            images += sum(pool.map(work, range(4)))
    return {"images_per_second": images / (time.monotonic() - begun)}


def jpeg(side: int) -> bytes:
    """One real image as a JPEG of `side` × `side` pixels."""
    with zipfile.ZipFile(DEMO_DATA) as archive:
        name = next(name for name in archive.namelist() if name.startswith("test/") and name.endswith(".png"))
        image = Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def family(pid: int) -> Iterator[Path]:
    """The folders under /proc of a process and of all that it has started."""
    tree = [pid]
    while tree:
        one = tree.pop()
        with suppress(OSError):  # ended meanwhile
            for task in Path(f"/proc/{one}/task").iterdir():
                tree += map(int, (task / "children").read_text().split())
            yield Path(f"/proc/{one}")


def memory(pid: int) -> float:
    """MiB that a process and its children hold now, shared pages counted once."""
    total = 0
    for folder in family(pid):
        with suppress(OSError):
            [kib] = re.findall(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.M)
            total += int(kib)
    return total / 1024


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its children have used, in user code and in the kernel."""
    ticks = 0
    for folder in family(pid):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(bundle: Path, folder: Path, seconds: float, rounds: int) -> list[Row]:
    """The rows for one encoder: every server under every load, one server at a time."""
    side = open_bundle(bundle).manifest.preprocessing.size
    bodies = Bodies(jpeg(side), folder)
    starts = servers(bundle, bodies, folder)
    found: dict[tuple[str, Load | None], list[Row]] = {}
    for _ in range(rounds):
        found.setdefault(("bare loop", None), []).append(bare_loop(bundle, bodies.data, seconds))
        for name, start in starts.items():
            with ExitStack() as stack:
                server = stack.enter_context(start())
                ask(server, Load(1, 8), seconds / 2)  # warms what is compiled or loaded on first use
                for load in LOADS:
                    row = ask(server, load, seconds)
                    row["MiB"] = memory(server.pid)
                    found.setdefault((name, load), []).append(row)
    rows = []
    for (name, asked), measured in found.items():
        row = {"encoder_px": side, "server": name}
        if asked:
            row |= {"images_per_request": asked.images, "concurrency": asked.concurrency}
        keys = dict.fromkeys(key for one in measured for key in one)
        row |= {key: statistics.median(one[key] for one in measured if key in one) for key in keys}
        if asked:
            row["errors"] = sum(one["errors"] for one in measured)
        rows.append(row)
    return rows


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--bundle", type=Path, action="append", help="instead of a 32-px and a 224-px encoder")
    arguments = flags.parse_args()
    if shutil.which("hey") is None:
        raise SystemExit("hey is missing: apt-get install hey")
    seconds, rounds = (1.5, 1) if arguments.quick else (4.0, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = arguments.bundle or [small_bundle(folder), *([] if arguments.quick else [large_bundle(folder)])]
        rows = [row for bundle in bundles for row in measure(bundle, folder, seconds, rounds)]
    report("Serving", rows, {"seconds": seconds, "rounds": rounds}, arguments.json)


if __name__ == "__main__":
    main()

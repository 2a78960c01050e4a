"""Our server beside plain FastAPI with one session run per request, and the bare loop that is the limit of both.

The same ONNX file, the same JPEG, the same load generator (`hey` from Debian) on the same machine. The rows take turns,
round after round; medians over the rounds are shown. The bare loop decodes and infers without any server.
"""

import csv
import io
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.embed_folder import small_bundle
from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.served import listening
from vssl.bundle import open_bundle
from vssl.engine import Engine
from vssl.preprocessing import decode

BATCH = 32
MANY = 64


@dataclass(frozen=True)
class Load:
    """What `hey` sends: `images` a request, from `concurrency` connections."""

    images: int
    concurrency: int


LOADS = [Load(1, 1), Load(1, 8), Load(1, 32), Load(1, 128), Load(MANY, 4)]


@dataclass(frozen=True)
class Server:
    """A process that listens, and its paths for one image and for many."""

    name: str
    url: str
    pid: int
    one: str
    many: str


@contextmanager
def started(name: str, command: list[str], one: str, many: str) -> Iterator[Server]:
    """Start a server of this Python's, and end it."""
    with listening([sys.executable, "-m", *command]) as (url, pid):
        yield Server(name, url, pid, one, many)


def ask(server: Server, load: Load, bodies: dict[int, tuple[Path, str]], seconds: float) -> Row:
    """Images/s, latencies in milliseconds, and how many answers were none, by `hey`."""
    body, kind = bodies[load.images]
    url = server.url + (server.one if load.images == 1 else server.many)
    command = ["hey", "-z", f"{seconds}s", "-c", str(load.concurrency), "-o", "csv", "-m", "POST", "-T", kind]
    done = subprocess.run([*command, "-D", str(body), url], check=True, capture_output=True, text=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    good = sorted(float(row["response-time"]) for row in rows if row["status-code"] == "200")
    if not good:
        raise SystemExit(f"{server.name}: no answer under {load}: {done.stdout[:300]}{done.stderr[:300]}")
    # hey leaves failed connections out of its table: they show as fewer images a second.
    return {
        "images_per_second": len(good) * load.images / seconds,
        "p50_ms": 1000 * good[len(good) // 2],
        "p99_ms": 1000 * good[min(len(good) - 1, len(good) * 99 // 100)],
        "errors": len(rows) - len(good),
    }


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


def write_bodies(folder: Path, side: int) -> tuple[dict[int, tuple[Path, str]], bytes]:
    """One real image as a JPEG of `side` × `side` pixels, alone and 64 times in a multipart body."""
    with zipfile.ZipFile(DEMO_DATA) as archive:
        name = next(name for name in archive.namelist() if name.startswith("test/") and name.endswith(".png"))
        image = Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    data = file.getvalue()
    (folder / "one").write_bytes(data)
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    (folder / "many").write_bytes((head + data + b"\r\n") * MANY + b"--x--\r\n")
    return {
        1: (folder / "one", "image/jpeg"),
        MANY: (folder / "many", "multipart/form-data; boundary=x"),
    }, data


def peak_memory(pid: int) -> float:
    """MiB that a process has held at most."""
    [line] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) / 1024


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--bundle", type=Path, help="a bundle; without it a small one is trained")
    flags.add_argument("--side", type=int, help="of the JPEG in pixels; by default the encoder's")
    arguments = flags.parse_args()
    if shutil.which("hey") is None:
        raise SystemExit("hey is missing: apt-get install hey")
    seconds, rounds = (2.0, 1) if arguments.quick else (5.0, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = arguments.bundle or small_bundle(folder)
        side = arguments.side or open_bundle(bundle).manifest.preprocessing.size
        bodies, data = write_bodies(folder, side)
        with (
            started("vssl serve", ["vssl.cli", "serve", str(bundle), "--port", "0"], *["/v1/embed"] * 2) as ours,
            started("plain FastAPI", ["benchmarks.plain_fastapi", str(bundle)], "/one", "/many") as plain,
        ):
            works: dict[tuple[str, Load | None], Callable[[], Row]] = {
                ("bare loop", None): lambda: bare_loop(bundle, data, seconds)
            }
            for load in LOADS:
                for server in (ours, plain):
                    works[server.name, load] = lambda server=server, load=load: ask(server, load, bodies, seconds)  # type: ignore[misc]
            found: dict[tuple[str, Load | None], list[Row]] = {key: [] for key in works}
            for _ in range(rounds):
                for key, work in works.items():
                    found[key].append(work())
            memory = {server.name: peak_memory(server.pid) for server in (ours, plain)}
    rows = []
    for (row_name, asked), measured in found.items():
        row: Row = {"server": row_name}
        if asked:
            row |= {"images_per_request": asked.images, "concurrency": asked.concurrency}
        row |= {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        if asked:
            row["errors"] = sum(one["errors"] for one in measured)
            row["peak_MiB"] = memory[row_name]
        rows.append(row)
    report("Serving", rows, {"jpeg_side": side, "seconds": seconds, "rounds": rounds}, arguments.json)


if __name__ == "__main__":
    main()

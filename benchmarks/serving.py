"""Our server beside plain FastAPI, LitServe, BentoML and Triton, and the bare loop that is the limit of all of them.

The same ONNX file, the same decoding, the same JPEG, the same load generator (`hey` from Debian) on the same machine.
The bare loop decodes and infers without any server. Each server runs alone, round after round; medians over the rounds
are shown. CPU time per image is what a busy machine changes least. The bare loop has the cores to itself, the servers
share them with `hey`: no server could come closer to it than that leaves. The peers run as their documentation shows
it, with ONNX Runtime's defaults; "plain FastAPI, our session" has our session's options. LitServe and BentoML take
base64 in JSON. `make peers` and `make test-triton` install them; what is not there is left out.
"""

import csv
import io
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.embed_folder import small_bundle
from benchmarks.large_encoder import large_bundle
from benchmarks.processes import cpu_seconds, memory
from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.serving_servers import MANY, Bodies, Server, servers
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.decoding import decode

BATCH = 32


@dataclass(frozen=True)
class Load:
    """What `hey` sends: `images` a request, from `concurrency` connections."""

    images: int
    concurrency: int


LOADS = [Load(1, 1), Load(1, 8), Load(1, 32), Load(1, 128), Load(MANY, 4)]


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

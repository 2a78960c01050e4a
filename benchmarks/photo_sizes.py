"""The folder job and the server on photographs of 200 pixels to 12 megapixels, beside the bare loop.

`python -m benchmarks.photo_sizes --photos PHOTOS --json FILE`. The bare loop decodes and infers the same files in one
process, a batch a thread on all cores, and keeps nothing. `vssl embed` reads them from a folder; its own clock counts,
which starts before the model is opened. The server is asked by `hey`, which shares the cores, with one photograph a
request and with eight; never with more pixels than a request may have. All have the same eight photographs, since those
of as many pixels do not cost the same. The ways take turns; medians are shown. What is left to the server of the cores
beside `hey` is compared with as much of the bare loop in a column of its own. JPEGs as of a phone
(`phone_photographs`), every second one turned by EXIF. At last small pictures are asked for alone, and beside clients
that send nothing but the largest.
"""

import csv
import io
import json
import resource
import shutil
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.phone_photographs import originals, resized
from benchmarks.processes import cpu_seconds
from benchmarks.report import Row, parser, report
from benchmarks.served import VSSL, Listening, listening
from vssl.batch_sizes import part_images
from vssl.bundle.default import default_bundle
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.decoding import decode
from vssl.memory import cores, keep_freed_memory

SIZES = {"200 px": 30_000, "500 × 375": 187_500, "1 MP": 10**6, "3 MP": 3 * 10**6, "12 MP": 12 * 10**6}
"""Pixels of each size."""

DIFFERENT, BATCH, GRAIN = 8, 16, 2.0
CLIENTS = {1: 16, 8: 4}
"""Connections of `hey`, by the photographs in a request."""


@dataclass(frozen=True)
class Speed:
    """Photographs a second, milliseconds of processors' work for one, and the cores that whoever asks takes."""

    per_second: float
    cpu_ms: float
    client_cores: float = 0.0


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--photos", required=True, help="photographs: folder, archive, or archive.zip::folder")
    flags.add_argument("--bundle", type=Path, default=default_bundle(), help="the model; without it the default one")
    flags.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    flags.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    flags.add_argument("--rounds", type=int, default=3)
    arguments = flags.parse_args()
    if shutil.which("hey") is None:
        raise SystemExit("hey is missing: apt-get install hey")
    if arguments.quick:
        arguments.seconds, arguments.rounds = 2.0, 1
    keep_freed_memory()  # as the server and `vssl embed` do
    files, rng = originals(arguments.photos, DIFFERENT), np.random.default_rng(0)
    made = {
        size: [resized(data, SIZES[size], GRAIN, rng, turned=number % 2 == 0) for number, data in enumerate(files)]
        for size in arguments.sizes
    }
    with (
        tempfile.TemporaryDirectory() as name,
        listening([VSSL, "serve", str(arguments.bundle), "--port", "0"]) as server,
    ):
        rows = [
            row for size, photographs in made.items() for row in of_size(size, photographs, server, name, arguments)
        ]
        if len(made) > 1:
            rows += beside(made, server, Path(name), arguments.seconds)
    report(
        "Photographs by their size", rows, {"seconds": arguments.seconds, "rounds": arguments.rounds}, arguments.json
    )


def of_size(
    size: str, photographs: Sequence[bytes], server: Listening, name: str, arguments: Namespace
) -> Iterator[Row]:
    """A row for each way; a first turn, which warms up, also says how many files a job of so many seconds has."""
    folder, seconds = Path(name, size), arguments.seconds
    rough = bare_loop(arguments.bundle, photographs, min(2.0, seconds)).per_second
    folder.mkdir()
    for number, content in enumerate(islice(cycle(photographs), max(2 * BATCH, int(rough * seconds)))):
        (folder / f"{number:06d}.jpg").write_bytes(content)
    ways: dict[str, Callable[[], Speed]] = {
        "bare loop": lambda: bare_loop(arguments.bundle, photographs, seconds),
        "vssl embed": lambda: embedded(folder, arguments.bundle),
        **{f"server, {images} a request": asker(photographs, images, server, name, seconds) for images in CLIENTS},
    }
    found: dict[str, list[Speed]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way, measure in ways.items():
            found[way].append(measure())
    bare = median(speed.per_second for speed in found["bare loop"])
    for way, speeds in found.items():
        fields = "per_second", "cpu_ms", "client_cores"
        rate, work, client = (median(getattr(speed, field) for speed in speeds) for field in fields)
        yield {
            "photographs": size,
            "MB": sum(map(len, photographs)) / len(photographs) / 1e6,
            "way": way,
            "per_second": rate,
            "of the bare loop": rate / bare,
            "of its share": rate / bare * cores() / (cores() - client),
            "cpu_ms": work,
            "cores_used": rate * work / 1000,
            "client_cores": client,
        }


def bare_loop(location: Path, photographs: Sequence[bytes], seconds: float) -> Speed:
    """Decode and infer, a few images a thread, on all cores."""
    bundle = open_bundle(location)
    engine, preprocessing = Engine(bundle, threads=1), bundle.manifest.preprocessing
    few = part_images(engine.size, BATCH, 1)
    engine(np.zeros((few, engine.size, engine.size, 3), np.uint8))
    begun, cpu = time.perf_counter(), time.process_time()

    def work(first: int) -> int:
        done = 0
        while time.perf_counter() - begun < seconds:
            some = islice(cycle(photographs), first, first + few)
            done += len(engine(np.stack([decode(data, preprocessing) for data in some])))
        return done

    with ThreadPoolExecutor(cores()) as pool:
        done = sum(pool.map(work, range(cores())))
    return Speed(done / (time.perf_counter() - begun), 1000 * (time.process_time() - cpu) / done)


def embedded(folder: Path, bundle: Path) -> Speed:
    """`vssl embed` by its own clock. Its work is that of the whole command, start included."""
    with tempfile.TemporaryDirectory() as out:
        command = [VSSL, "embed", str(folder), "--bundle", str(bundle), "-o", out, "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        work = 0.0
        while process.poll() is None:
            work = max(work, cpu_seconds(process.pid))
            time.sleep(0.02)
        told = json.loads(process.communicate()[0])
    return Speed(told["embedded"] / told["seconds"], 1000 * work / told["embedded"])


def asker(
    photographs: Sequence[bytes], images: int, server: Listening, folder: str, seconds: float
) -> Callable[[], Speed]:
    """What asks the server for so many photographs a request."""
    files = []
    for first in range(0, len(photographs), images):
        body, kind = form(photographs[first : first + images])
        files.append(Path(folder, f"{images}-{first}-{len(body)}"))
        files[-1].write_bytes(body)

    def ask() -> Speed:
        before, client = cpu_seconds(server.pid), ended_children()
        with ThreadPoolExecutor(len(files)) as pool:
            asked = partial(answered, server, kind=kind, clients=CLIENTS[images] // len(files), seconds=seconds)
            moments = [moment for each in pool.map(asked, files) for moment in each]
        done = images * len(moments)
        work = 1000 * (cpu_seconds(server.pid) - before) / done
        return Speed(done / max(moments), work, (ended_children() - client) / max(moments))

    return ask


def ended_children() -> float:
    """CPU-seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def form(photographs: Sequence[bytes]) -> tuple[bytes, str]:
    """A multipart form of JPEGs, and its type."""
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    return b"".join(head + data + b"\r\n" for data in photographs) + b"--x--\r\n", "multipart/form-data; boundary=x"


def answered(server: Listening, body: Path, kind: str, clients: int, seconds: float) -> list[float]:
    """The moment of each answer, in seconds; requests under way at the end are waited for."""
    command = ["hey", "-z", f"{seconds}s", "-c", str(clients), "-t", "0", "-o", "csv", "-m", "POST", "-T", kind]
    done = subprocess.run(
        [*command, "-D", str(body), f"{server.url}/v1/embed"], check=True, capture_output=True, text=True
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    wrong = [row["status-code"] for row in rows if row["status-code"] != "200"]
    if wrong or not rows:
        raise SystemExit(f"{len(wrong)} of {len(rows)} answers are none: {wrong[:3]}")
    return [float(row["offset"]) + float(row["response-time"]) for row in rows]


def beside(made: dict[str, list[bytes]], server: Listening, folder: Path, seconds: float) -> Iterator[Row]:
    """Small pictures, one after the other, alone and beside four clients that send large ones."""
    least, most = min(made, key=SIZES.__getitem__), max(made, key=SIZES.__getitem__)
    (small, kind), (large, _) = form(made[least][:1]), form(made[most][:1])
    (folder / "small").write_bytes(small)
    (folder / "large").write_bytes(large)
    for others in (0, 4):
        with ThreadPoolExecutor(1) as pool:
            if others:
                pool.submit(answered, server, folder / "large", kind, others, seconds + 4)
                time.sleep(2)
            command = ["hey", "-z", f"{seconds}s", "-c", "1", "-o", "csv", "-m", "POST", "-T", kind]
            done = subprocess.run(
                [*command, "-D", str(folder / "small"), f"{server.url}/v1/embed"], check=True, capture_output=True
            )
        waits = sorted(float(row["response-time"]) for row in csv.DictReader(io.StringIO(done.stdout.decode())))
        yield {
            "photographs": least,
            "way": f"server, one client beside {others} with {most}",
            "p50_ms": 1000 * waits[len(waits) // 2],
            "p99_ms": 1000 * waits[min(len(waits) - 1, len(waits) * 99 // 100)],
        }


if __name__ == "__main__":
    main()

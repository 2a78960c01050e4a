"""`vssl embed` through the server and in-process, beside the bare loop: decode and ONNX Runtime on all cores.

The three take turns on the same files in one run; whole commands are timed, start and Parquet included, and medians
shown with the ratio to the bare loop. Memory is the command's own peak, the server's not counted.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.served import served
from vssl.bundle import open_bundle
from vssl.engine import Engine
from vssl.preprocessing import DEFAULT_LIMITS, decode
from vssl.sources import open_source

VSSL = str(Path(sys.executable).parent / "vssl")
BATCH = 64


def bare_loop(bundle: Path, data: str) -> int:
    """Decode and infer every image, a batch per thread, and keep nothing."""
    opened, source = open_bundle(bundle), open_source(data)
    engine, preprocessing = Engine(opened, threads=1), opened.manifest.preprocessing
    paths = list(source.paths())

    def work(start: int) -> int:
        batch = paths[start : start + BATCH]
        pixels = [decode(source.read(path, DEFAULT_LIMITS.max_bytes), preprocessing) for path in batch]
        return len(engine(np.stack(pixels)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(work, range(0, len(paths), BATCH)))


def in_own_process(arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak memory in MiB of one command."""
    begun = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table; `--bare` is the bare loop alone, as a command of its own."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="images: folder, .zip, or archive.zip::folder")
    flags.add_argument("--bundle", type=Path, help="a bundle; without it a small one is trained for a minute")
    flags.add_argument("--bare", action="store_true", help="run the bare loop once, print nothing")
    arguments = flags.parse_args()
    if arguments.bare:
        bare_loop(arguments.bundle, arguments.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or small_bundle(Path(folder))
        with served(bundle) as url:
            rows = measure(bundle, arguments.data, url, Path(folder), rounds=1 if arguments.quick else 3)
    images = sum(1 for _ in open_source(arguments.data).paths())
    for row in rows:
        row["images_per_second"] = images / row.pop("seconds")
    settings = {"images": images, "data": Path(arguments.data).name}
    report("vssl embed", rows, settings, arguments.json)


def measure(bundle: Path, data: str, url: str, folder: Path, rounds: int) -> list[Row]:
    """Median seconds and largest memory of the three, which take turns."""

    def embed(*road: str) -> list[str]:
        out = tempfile.mkdtemp(dir=folder)
        return [VSSL, "embed", data, *road, "-o", out, "--quiet"]

    bare = [sys.executable, "-m", "benchmarks.embed_folder", "--bare"]
    commands: dict[str, Callable[[], list[str]]] = {
        "bare loop": lambda: [*bare, "--bundle", str(bundle), "--data", data],
        "in-process": lambda: embed("--bundle", str(bundle)),
        "through the server": lambda: embed("--url", url),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken[name].append(in_own_process(command()))
    medians = {name: statistics.median(seconds for seconds, _ in runs) for name, runs in taken.items()}
    return [
        {
            "road": name,
            "seconds": medians[name],
            "of_bare_loop": medians["bare loop"] / medians[name],
            "peak_MiB": max(memory for _, memory in runs),
        }
        for name, runs in taken.items()
    ]


def small_bundle(folder: Path) -> Path:
    """A bundle of the recipe `quick`, hardly trained: speed does not depend on what it learned."""
    run, bundle = folder / "run", folder / "bundle"
    data = f"{DEMO_DATA}::train"
    for arguments in (
        ["train", "--data", data, "--out", str(run), "--steps", "10"],
        ["export", str(run), "--out", str(bundle)],
    ):
        subprocess.run([VSSL, *arguments], check=True, stderr=subprocess.DEVNULL)
    return bundle


if __name__ == "__main__":
    main()

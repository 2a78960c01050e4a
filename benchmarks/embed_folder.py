"""`vssl embed` in-process, through the server and on Ray, beside the bare loop: decode and ONNX Runtime on all cores.

They take turns on the same files in one run; whole commands are timed, start and Parquet included, and medians shown
with the ratio to the bare loop. Folders of the first 10,000 and of all images, unpacked, show whether memory grows with
the folder; an archive's own directory is held in memory as long as it is read. Memory is the peak of the command's
largest process: the server's is not counted, and of Ray's processes only one.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.served import served
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.decoding import DEFAULT_LIMITS, decode
from vssl.memory import cores
from vssl.sources.opening import open_source

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

    with ThreadPoolExecutor(cores()) as pool:
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
    flags.add_argument("--data", default=DEMO_DATA, help="small images: folder, archive, or archive.zip::folder")
    flags.add_argument("--photos", help="photographs, repeated until there are 1,000 (100 with --quick)")
    flags.add_argument("--bundle", type=Path, help="a bundle; without it a small one is trained for a minute")
    flags.add_argument("--bare", action="store_true", help="run the bare loop once, print nothing")
    arguments = flags.parse_args()
    if arguments.bare:
        bare_loop(arguments.bundle, arguments.data)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = arguments.bundle or small_bundle(folder)
        photos = 100 if arguments.quick else 1000
        with served(bundle) as url:
            ways = commands(bundle, url, folder)
            rows = measure(arguments.data, ways, rounds=1 if arguments.quick else 2)
            if not arguments.quick:
                growing = {way: ways[way] for way in ("in-process", "through the server")}
                for images in (FEW, MANY):
                    unpacked = folder / f"folder of {images:,}"
                    with zipfile.ZipFile(repeated(arguments.data, images, folder / "part.zip")) as archive:
                        archive.extractall(unpacked)
                    rows += measure(str(unpacked), growing, rounds=1)
            if arguments.photos:
                rows += measure(repeated(arguments.photos, photos, folder / "photos.zip"), ways, rounds=1)
    report("vssl embed", rows, {"data": Path(arguments.data).name}, arguments.json)


BARE, FEW, MANY = "bare loop", 10_000, 60_000
Command = Callable[[str], list[str]]


def commands(bundle: Path, url: str, folder: Path) -> dict[str, Command]:
    """What embeds the images at a location, by the name of the way."""

    def embed(*way: str) -> Command:
        return lambda data: [VSSL, "embed", data, *way, "-o", tempfile.mkdtemp(dir=folder), "--quiet"]

    local = ["--bundle", str(bundle)]
    found: dict[str, Command] = {
        BARE: lambda data: [sys.executable, "-m", "benchmarks.embed_folder", "--bare", *local, "--data", data],
        "in-process": embed(*local),
        "through the server": embed("--url", url),
    }
    if find_spec("ray"):
        found["on Ray"] = embed(*local, "--engine", "ray")
    return found


def measure(data: str, ways: dict[str, Command], rounds: int) -> list[Row]:
    """Median speed and largest memory of the ways, which take turns; Ray, slow to start, has one turn."""
    source = open_source(data)
    images = sum(1 for _ in source.paths())
    source.close()
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, command in ways.items():
            if number == 0 or way != "on Ray":
                taken[way].append(in_own_process(command(data)))
    medians = {way: statistics.median(seconds for seconds, _ in runs) for way, runs in taken.items()}
    return [
        {
            "data": Path(data).name,
            "images": images,
            "way": way,
            "images_per_second": images / medians[way],
            "of_bare_loop": medians[BARE] / medians[way] if BARE in medians else None,
            "peak_MiB": max(memory for _, memory in runs),
        }
        for way, runs in taken.items()
    ]


def repeated(data: str, images: int, archive: Path) -> str:
    """An archive of so many images, the first ones of `data`, over and over if there are fewer."""
    source = open_source(data)
    with zipfile.ZipFile(archive, "w") as file:
        for number, path in enumerate(islice(cycle(list(source.paths())), images)):
            file.writestr(f"{number:06d}{Path(path).suffix}", source.read(path, DEFAULT_LIMITS.max_bytes))
    source.close()
    return str(archive)


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

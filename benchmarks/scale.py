"""Memory and time an image from 100,000 images to 1,000,000: what a set of ten million will take.

The images are entries without bytes: names, as they lie in an archive, or in a folder of embeddings.
"""

import os
import resource
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from benchmarks.report import Row, at_once, parser, report
from benchmarks.scale_folders import folder_rows
from vssl.sources.opening import open_source

COUNTS = (100_000, 1_000_000)
PER_FOLDER = 1000


def main() -> None:
    """Measure each size in a process of its own, and print the table with the slope."""
    flags = parser(__doc__)
    arguments = flags.parse_args()
    counts = [count // 10 for count in COUNTS] if arguments.quick else list(COUNTS)
    rows = index_rows(counts) + folder_rows(counts)
    report("Scale", rows, {"images": counts}, arguments.json)


def index_rows(counts: list[int]) -> list[Row]:
    """The index of a tar and of a zip: made, then read from the cache, as at a resume."""
    rows = []
    for kind in ("tar", "zip"):
        with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, XDG_CACHE_HOME=f"{place}/cache"):
            archives = [Path(place, f"{count}.{kind}") for count in counts]
            for archive, count in zip(archives, counts, strict=True):
                (write_tar if kind == "tar" else write_zip)(archive, count)
            time.sleep(2.5)  # the index of an archive that has just changed is not kept
            for step in ("made", "known"):
                sizes = [next(iter(at_once(1, opened, [(archive,)]))) for archive in archives]
                rows.append({"of": f"{kind} index, {step}"} | slopes(sizes, counts))
    return rows


def opened(archive: Path) -> Row:
    """Seconds and bytes of memory to know the files of an archive and to list them."""
    before, begun = anonymous(), time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    source = open_source(str(archive))
    seconds = time.perf_counter() - begun
    found = {"seconds": seconds, "held": anonymous() - before}
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak
    begun, last = time.perf_counter(), ""
    for path in source.paths():
        last = path
    found["listing"] = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(1000):
        source.size(last)
    return found | {"look_up": time.perf_counter() - begun}


def slopes(sizes: list[Row], counts: list[int]) -> Row:
    """What one more image takes: in µs, in bytes held, and in bytes at the peak."""
    more = counts[-1] - counts[0]
    slope = {name: (sizes[-1][name] - sizes[0][name]) / more for name in sizes[0]}
    return {
        "made_us": slope["seconds"] * 1e6,
        "listed_us": slope["listing"] * 1e6,
        "held_bytes": slope["held"],
        "peak_bytes": slope["peak"],
        "look_up_us": sizes[-1]["look_up"] * 1e3,
    }


def anonymous() -> int:
    """Bytes of memory of this process alone, mapped files left out."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def write_tar(file: Path, count: int) -> None:
    """A tar of empty files."""
    with file.open("wb") as out:
        for name in names(count):
            out.write(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
        out.write(b"\0" * tarfile.RECORDSIZE)


def write_zip(file: Path, count: int) -> None:
    """A zip of empty files."""
    with zipfile.ZipFile(file, "w") as out:
        for name in names(count):
            out.writestr(zipfile.ZipInfo(name), b"")


def names(count: int) -> Iterator[str]:
    """Paths as long as those of a large set are."""
    return (f"{number // PER_FOLDER:05}/image-{number:010}.jpg" for number in range(count))


if __name__ == "__main__":
    main()

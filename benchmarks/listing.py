"""Seconds until a large folder's images are known: by a search, and from the listing it left."""

import os
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from benchmarks.report import Row, parser, report
from vssl.sources.opening import open_source

PER_FOLDER = 1000


def main() -> None:
    """Make empty files, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--files", type=int, help="how many (200,000; 20,000 with --quick)")
    flags.add_argument("--rounds", type=int, default=3, help="the best of so many is told")
    arguments = flags.parse_args()
    count = arguments.files or (20_000 if arguments.quick else 200_000)
    with tempfile.TemporaryDirectory() as place:
        images, cache = Path(place, "images"), Path(place, "cache")
        for number in range(count):
            folder = images / f"{number // PER_FOLDER:04}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:08}.jpg").touch()
        time.sleep(2.5)  # a folder that has just changed is not kept
        with patch.dict(os.environ, XDG_CACHE_HOME=str(cache)):
            rows = [measured(images, cache) for _ in range(arguments.rounds)]
        size = sum(path.stat().st_size for path in cache.rglob("*.z"))
    best = {name: min(row[name] for row in rows) for name in rows[0]}
    settings = {"files": count, "rounds": arguments.rounds, "kept_bytes": size}
    report("Listing a folder", [best | {"ratio": best["searched"] / best["known"]}], settings, arguments.json)


def measured(images: Path, cache: Path) -> Row:
    """One round: searched, and kept; then read from what was kept."""
    for path in cache.rglob("*.z"):
        path.unlink()
    return {"searched": seconds(images), "known": seconds(images)}


def seconds(images: Path) -> float:
    """Time to list all."""
    begun = time.perf_counter()
    for _ in open_source(str(images)).paths():
        pass
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

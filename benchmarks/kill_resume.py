"""`vssl embed` killed with SIGKILL at random moments, again and again: how many images were lost, or embedded twice.

Each run goes on where the last one was killed, in-process and through a server in turn. The moment is drawn from the
time that a run needs until it has written its first part, and half as much again, so that kills meet the start, the
reading of old parts, the work, and the writing of new parts. A job that is done makes room for the next.
"""

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.embed_folder import small_bundle
from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.served import served
from vssl.sources.opening import open_source
from vssl_client.formats.parquet import read_columns
from vssl_client.parts.finding import parts_of

EMBED = "from vssl_client.folder import part_writer; part_writer.PART_ROWS = 64\nfrom vssl.cli import main\nmain()"
"""Parts of one batch, so that there are many moments at which one is being written."""


def main() -> None:
    """Print the table; exit status 1 if anything was lost, doubled or written again."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=f"{DEMO_DATA}::train", help="images: folder, archive, or archive.zip::folder")
    flags.add_argument("--bundle", type=Path, help="a bundle; without it a small one is trained for a minute")
    flags.add_argument("--kills", type=int, help="how many (50; 10 with --quick)")
    flags.add_argument("--seed", type=int, default=0)
    arguments = flags.parse_args()
    kills = arguments.kills or (10 if arguments.quick else 50)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or small_bundle(Path(folder))
        with served(bundle) as url:
            ways = [["--bundle", str(bundle)], ["--url", url]]
            row = killed_and_resumed(arguments.data, ways, Path(folder), kills, random.Random(arguments.seed))
    settings = {"data": Path(arguments.data).name, "seed": arguments.seed, "seconds": time.monotonic() - begun}
    report("vssl embed, killed and run again", [row], settings, arguments.json)
    if row["lost"] or row["twice"] or row["parts_changed"]:
        raise SystemExit(1)


def killed_and_resumed(data: str, ways: list[list[str]], folder: Path, kills: int, chance: random.Random) -> Row:
    """Kill jobs so many times, let them finish, and count: in the end each image of `data` must have one row.

    Args:
        data: the images, which must all be good.
        ways: flags of `vssl embed` that say what embeds; they take turns.
        folder: where the jobs get a folder each.
        kills: how often.
        chance: draws the moments.
    """
    source = open_source(data)
    names = list(source.paths())
    source.close()
    counts: Counter[str] = Counter(images=len(names), kills=0, jobs=0, lost=0, twice=0, parts_changed=0)
    first_part = 2.0  # seconds, measured anew in each run that gets so far
    while counts["kills"] < kills:
        out = folder / f"embeddings-{counts['jobs']}"
        finished: dict[str, str] = {}
        process = None
        while process is None or process.returncode != 0:
            # The last kill of all is followed by a run that is left alone.
            patience = chance.uniform(0.0, 1.5 * first_part) if counts["kills"] < kills else None
            way = ways[counts["kills"] % len(ways)]
            process = subprocess.Popen([sys.executable, "-c", EMBED, "embed", data, *way, "-o", str(out), "--quiet"])
            first_part = watch(process, out, len(finished), patience) or first_part
            if process.returncode > 0:
                raise SystemExit(f"vssl embed ended with {process.returncode}")
            counts["kills"] += process.returncode < 0
            now = {part.name: digest(part) for part in parts_of(out)}
            counts["parts_changed"] += sum(now.get(name) != content for name, content in finished.items())
            finished = now
        rows = Counter(path for part in parts_of(out) for path in read_columns(part, ["path"])["path"].to_pylist())
        counts["jobs"] += 1
        counts["lost"] += len(set(names) - rows.keys())
        counts["twice"] += rows.total() - len(rows)
    return dict(counts)


def watch(process: "subprocess.Popen[bytes]", out: Path, parts: int, patience: float | None) -> float | None:
    """Wait for a process, and kill it when `patience` seconds are over; when it wrote its first part, if it did."""
    begun = time.monotonic()
    first = None
    while process.poll() is None:
        passed = time.monotonic() - begun
        if first is None and len(parts_of(out)) > parts:
            first = passed
        if patience is not None and passed > patience:
            process.kill()
            process.wait()
        time.sleep(0.002)
    return first


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()

"""One process, several workers, and workers that share one engine process, under the same load.

Modes take turns, round after round; medians over the rounds are shown. `hey` runs on the same cores. Other work on the
machine lowers images/s of whichever mode it meets; CPU time an image and memory hardly change. So the mean load of the
machine's last minute stands in each row, by the system's count, `hey` and the server included.
"""

import os
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.embed_folder import small_bundle
from benchmarks.large_encoder import large_bundle
from benchmarks.processes import memory
from benchmarks.report import Row, parser, report
from benchmarks.served import VSSL, listening
from benchmarks.serving import Load, ask, jpeg
from benchmarks.serving_servers import Bodies, Server
from vssl.bundle.reading import open_bundle

MODES = {
    "one process": [],
    "--workers 2": ["--workers", "2"],
    "--workers 1 --engine-process": ["--engine-process"],
    "--workers 2 --engine-process": ["--workers", "2", "--engine-process"],
}
LOADS = [Load(1, 1), Load(1, 32)]


def measure(bundle: Path, folder: Path, seconds: float, rounds: int) -> list[Row]:
    """The rows of one encoder."""
    side = open_bundle(bundle).manifest.preprocessing.size
    raw = Bodies(jpeg(side), folder).raw()
    found: dict[tuple[str, Load], list[Row]] = {}
    for _ in range(rounds):
        for mode, flags in MODES.items():
            with listening([VSSL, "serve", str(bundle), "--port", "0", *flags]) as process:
                server = Server(process.pid, {1: (f"{process.url}/v1/embed", raw)})
                ask(server, Load(1, 8), seconds / 2)  # warms what is compiled or loaded on first use
                for load in LOADS:
                    row = ask(server, load, seconds) | {"MiB": memory(process.pid), "machine_load": os.getloadavg()[0]}
                    found.setdefault((mode, load), []).append(row)
    rows = []
    for (mode, load), measured in found.items():
        keys = [key for key in measured[0] if all(key in one for one in measured)]
        medians = {key: statistics.median(one[key] for one in measured) for key in keys}
        rows.append({"encoder_px": side, "mode": mode, "concurrency": load.concurrency} | medians)
    return rows


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    arguments = flags.parse_args()
    if shutil.which("hey") is None:
        raise SystemExit("hey is missing: apt-get install hey")
    seconds, rounds = (2.0, 1) if arguments.quick else (3.0, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = [small_bundle(folder), *([] if arguments.quick else [large_bundle(folder)])]
        rows = [row for bundle in bundles for row in measure(bundle, folder, seconds, rounds)]
    report("One engine process", rows, {"seconds": seconds, "rounds": rounds}, arguments.json)


if __name__ == "__main__":
    main()

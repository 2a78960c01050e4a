"""Two versions of the server side by side: images/s and CPU time an image of the later, as parts of the earlier's.

A version is named by the Python of an environment that it is installed into, such as `.venv/bin/python` of a checkout
after `make setup`. Both are up at once and loaded in turns by `hey`, on the same cores. Each round starts them anew,
because two starts of one version differ by more than a twentieth. A ratio is the median of the rounds'.
"""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.report import Row, parser, report
from benchmarks.served import listening
from benchmarks.serving import Load, ask, jpeg
from benchmarks.serving_servers import MANY, Bodies, Server
from vssl.bundle.default import located
from vssl.bundle.reading import open_bundle

LOADS = (Load(1, 32), Load(MANY, 4))


def main() -> None:
    """Load both, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--before", required=True, help="Python of the earlier version")
    flags.add_argument("--after", required=True, help="Python of the later version")
    flags.add_argument("--bundle", type=Path, default=Path("builtin:tiny"), help="one that both can read")
    flags.add_argument("--rounds", type=int, default=10)
    arguments = flags.parse_args()
    count, seconds = (2, 2.0) if arguments.quick else (arguments.rounds, 5.0)
    bundle = located(arguments.bundle)
    rounds: list[dict[Load, list[Row]]] = []
    with tempfile.TemporaryDirectory() as folder:
        bodies = Bodies(jpeg(open_bundle(bundle).manifest.preprocessing.size), Path(folder))
        for number in range(count):
            with ExitStack() as both:
                servers = []
                for python in (arguments.before, arguments.after):
                    up = both.enter_context(listening([python, "-m", "vssl.cli", "serve", str(bundle), "--port", "0"]))
                    url = f"{up.url}/v1/embed"
                    servers.append(Server(up.pid, {1: (url, bodies.raw()), MANY: (url, bodies.multipart())}))
                rounds.append({load: asked(servers, load, seconds, number % 2 == 1) for load in LOADS})
    rows = [compared([one[load] for one in rounds], load) for load in LOADS]
    report("Two versions of the server", rows, {"bundle": str(arguments.bundle), "rounds": count}, arguments.json)


def asked(servers: list[Server], load: Load, seconds: float, later_first: bool) -> list[Row]:
    """One load on the earlier version's server and on the later one's, in one order or the other."""
    for server in servers:
        ask(server, load, 2.0)
    found = {which: ask(servers[which], load, seconds) for which in ((1, 0) if later_first else (0, 1))}
    return [found[0], found[1]]


def compared(pairs: list[list[Row]], load: Load) -> Row:
    """The later version's figures as parts of the earlier's: the median, the least and the most."""
    row: Row = {"images": load.images, "connections": load.concurrency}
    for name, shown in (("images_per_second", "images_per_second"), ("cpu_us", "cpu_an_image")):
        ratios = sorted(after[name] / before[name] for before, after in pairs)
        row |= {shown: statistics.median(ratios), f"{shown}_least": ratios[0], f"{shown}_most": ratios[-1]}
    row["errors"] = sum(one["errors"] for pair in pairs for one in pair)
    return row


if __name__ == "__main__":
    main()

"""Two versions of the server side by side: images/s and CPU time an image of the later, as parts of the earlier's.

A version is named by the Python of an environment that it is installed into, such as `.venv/bin/python` of a checkout
after `make setup`. Both are up all the time and loaded in turns by `hey`, on the same cores. A ratio is the median of
the rounds'.
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
    flags.add_argument("--rounds", type=int, default=6)
    arguments = flags.parse_args()
    rounds, seconds = (2, 2.0) if arguments.quick else (arguments.rounds, 5.0)
    bundle = located(arguments.bundle)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as both:
        bodies = Bodies(jpeg(open_bundle(bundle).manifest.preprocessing.size), Path(folder))
        servers = []
        for python in (arguments.before, arguments.after):
            up = both.enter_context(listening([python, "-m", "vssl.cli", "serve", str(bundle), "--port", "0"]))
            url = f"{up.url}/v1/embed"
            servers.append(Server(up.pid, {1: (url, bodies.raw()), MANY: (url, bodies.multipart())}))
        rows = [compared(servers, load, rounds, seconds) for load in LOADS]
    report("Two versions of the server", rows, {"bundle": str(arguments.bundle), "rounds": rounds}, arguments.json)


def compared(servers: list[Server], load: Load, rounds: int, seconds: float) -> Row:
    """One load on both servers, the earlier version's first; who begins changes from round to round."""
    for server in servers:
        ask(server, load, 2.0)
    asked = []
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        found = {which: ask(servers[which], load, seconds) for which in order}
        asked.append([found[0], found[1]])

    def ratio(name: str) -> float:
        middle: float = statistics.median(after[name] / before[name] for before, after in asked)
        return middle

    return {
        "images": load.images,
        "connections": load.concurrency,
        "images_per_second": ratio("images_per_second"),
        "cpu_an_image": ratio("cpu_us"),
        "errors": sum(row["errors"] for pair in asked for row in pair),
    }


if __name__ == "__main__":
    main()

"""How long `vssl serve` takes from its start until it is alive, and until it can answer.

Alive is the first 200 of `/healthz`, ready the line on standard error, which comes when every model can answer; then
`/readyz` must say so too. With `--before` an earlier version takes turns with this one. It is named by the Python of an
environment that it is installed into, such as `.venv/bin/python` of a checkout after `make setup`. The first round
brings the files into memory and is not counted. Medians, least and most of the others are shown.
"""

import http.client
import socket
import statistics
import subprocess
import sys
import time
from contextlib import suppress

from benchmarks.report import Row, parser, report

MODES = {
    "one process": [],
    "--workers 2": ["--workers", "2"],
    "--engine-process": ["--engine-process"],
    "--workers 2 --engine-process": ["--workers", "2", "--engine-process"],
}
LOOK_SECONDS = 0.005
"""Between two looks; each costs a refused connection."""


def started(python: str, bundle: str, flags: list[str]) -> Row:
    """Seconds from the start of one server until it is alive, and until it is ready."""
    port = free_port()
    command = [python, "-m", "vssl.cli", "serve", bundle, "--port", str(port), *flags]
    begin = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while status(port, "/healthz") != 200:
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {process.stderr.read()}")
                time.sleep(LOOK_SECONDS)
            alive = time.perf_counter() - begin
            if not any("serving" in line for line in process.stderr):
                raise SystemExit(f"{' '.join(command)} ended with {process.wait()}")
            ready = time.perf_counter() - begin
            if status(port, "/readyz") != 200:
                raise SystemExit(f"{' '.join(command)} said that it serves and was not ready")
        finally:
            process.terminate()
            process.wait()
    return {"alive_s": alive, "ready_s": ready}


def status(port: int, path: str) -> int | None:
    """Of a GET on a new connection; None where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with suppress(OSError):
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return answer.status
    return None


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--before", metavar="PYTHON", help="of an earlier version")
    flags.add_argument("--bundle", nargs="+", default=["builtin:tiny", "builtin:default"])
    flags.add_argument("--rounds", type=int, default=5)
    arguments = flags.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    versions = ({"before": arguments.before} if arguments.before else {}) | {"now": sys.executable}
    rows = []
    for bundle in arguments.bundle:
        for mode, given in MODES.items():
            found: dict[str, list[Row]] = {version: [] for version in versions}
            for number in range(rounds + 1):
                for version in list(versions) if number % 2 else list(reversed(versions)):
                    found[version].append(started(versions[version], bundle, given))
            rows += [
                {"bundle": bundle, "mode": mode, "version": version} | summary(one[1:])
                for version, one in found.items()
            ]
    report("From the start until alive, and until ready", rows, {"rounds": rounds}, arguments.json)


def summary(measured: list[Row]) -> Row:
    """The median of each figure, the least and the most."""
    row: Row = {}
    for name in measured[0]:
        seconds = [one[name] for one in measured]
        row |= {name: statistics.median(seconds), f"{name}_least": min(seconds), f"{name}_most": max(seconds)}
    return row


if __name__ == "__main__":
    main()

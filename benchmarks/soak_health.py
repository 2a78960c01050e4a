"""Health, asked all the time by a process of its own, whose measure no other work of the load delays."""

import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.report import Row

PATHS = ("/healthz", "/readyz")
PAUSE = 0.02


class Asked(NamedTuple):
    """One question: when it was sent on the system's monotonic clock, the seconds until its answer, its status (0: none
    came), and by how much the pause before it was too long, which is what the machine itself made it wait.
    """

    at: float
    seconds: float
    status: int
    late: float


class Health:
    """What a server's health answered."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def since(self, start: float) -> list[Asked]:
        """All that was asked since then, of what was not told before."""
        self._pipe.send(None)
        asked: list[Asked] = self._pipe.recv()
        return [one for one in asked if one.at >= start]


@contextmanager
def asking(host: str, port: int) -> Iterator[Health]:
    """Ask, on a new connection each time, for as long as the `with` block lasts."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=ask, args=(host, port, there), daemon=True)
    process.start()
    there.close()
    try:
        yield Health(here)
    finally:
        process.terminate()
        process.join()


def ask(host: str, port: int, pipe: Connection) -> None:
    """Ask until the process is ended; tell when told to."""
    asked: list[Asked] = []
    while True:
        for path in PATHS:
            begun = time.monotonic()
            told = pipe.poll(PAUSE)
            if told:
                pipe.recv()
                pipe.send(asked)
                asked = []
            sent = time.monotonic()
            late = 0.0 if told else sent - begun - PAUSE
            asked.append(Asked(sent, *one(host, port, path), late))


def one(host: str, port: int, path: str) -> tuple[float, int]:
    """Seconds and status of one answer."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    return time.monotonic() - begun, status


def summary(asked: list[Asked], prefix: str) -> Row:
    """The columns of a table."""
    seconds = sorted(one.seconds for one in asked)
    return {
        f"{prefix}_asked": len(asked),
        f"{prefix}_p50_ms": 1000 * seconds[len(seconds) // 2],
        f"{prefix}_p99.9_ms": 1000 * seconds[len(seconds) * 999 // 1000],
        f"{prefix}_max_ms": 1000 * seconds[-1],
        f"{prefix}_machine_late_ms": 1000 * max(one.late for one in asked),
    }

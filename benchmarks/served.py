"""Servers as processes of their own, for as long as a `with` block lasts."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

VSSL = str(Path(sys.executable).parent / "vssl")


class Listening(NamedTuple):
    """A server's process."""

    url: str
    pid: int
    grpc: str | None = None
    """Host and port, if it speaks gRPC."""

    @property
    def host(self) -> str:
        """Of the address."""
        return self.url.removeprefix("http://").partition(":")[0]

    @property
    def port(self) -> int:
        """Of the address."""
        return int(self.url.rpartition(":")[2])


@contextmanager
def served(bundle: Path | None) -> Iterator[str]:
    """Start `vssl serve` (of the default model, if none is named) on a free port, give its address, and end it."""
    with listening([VSSL, "serve", *([] if bundle is None else [str(bundle)]), "--port", "0"]) as server:
        yield server.url


@contextmanager
def listening(command: list[str]) -> Iterator[Listening]:
    """Start a server that tells its address on standard error, and end it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://[\d.]+:\d+", line):
                grpc = re.search(r"grpc://(\S+)", line)
                yield Listening(found[0], process.pid, grpc and grpc[1])
                return
        raise SystemExit(f"{' '.join(command)} ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()

"""Servers as processes of their own, for as long as a `with` block lasts."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VSSL = str(Path(sys.executable).parent / "vssl")


@contextmanager
def served(bundle: Path | None) -> Iterator[str]:
    """Start `vssl serve` (of the default model, if none is named) on a free port, give its address, and end it."""
    with listening([VSSL, "serve", *([] if bundle is None else [str(bundle)]), "--port", "0"]) as (url, _):
        yield url


@contextmanager
def listening(command: list[str]) -> Iterator[tuple[str, int]]:
    """Start a server that tells its address on standard error, give that and its process id, and end it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://[\d.]+:\d+", line):
                yield found[0], process.pid
                return
        raise SystemExit(f"{' '.join(command)} ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()

"""`vssl serve` as a process of its own, for as long as a `with` block lasts."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VSSL = str(Path(sys.executable).parent / "vssl")


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """Start a server on a free port of 127.0.0.1, give its address, and end it."""
    process = subprocess.Popen([VSSL, "serve", str(bundle), "--port", "0"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if " on http://" in line:
                yield line.split(" on ")[-1].strip()
                return
        raise SystemExit(f"vssl serve {bundle} ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()

"""What a process and all that it has started use, read under /proc."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def family(pid: int) -> Iterator[Path]:
    """The folders under /proc of a process and of all that it has started."""
    tree = [pid]
    while tree:
        one = tree.pop()
        with suppress(OSError):  # ended meanwhile
            for task in Path(f"/proc/{one}/task").iterdir():
                tree += map(int, (task / "children").read_text().split())
            yield Path(f"/proc/{one}")


def memory(pid: int) -> float:
    """MiB that a process and its children hold now, shared pages counted once."""
    total = 0
    for folder in family(pid):
        with suppress(OSError):
            [kib] = re.findall(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.M)
            total += int(kib)
    return total / 1024


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its children have used, in user code and in the kernel."""
    ticks = 0
    for folder in family(pid):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")

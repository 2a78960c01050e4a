"""What this process may use of its machine."""

import os
import sys
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of work in so many microseconds: what a container may use of the cores that it sees."""


def cores() -> int:
    """Cores that this process may use: fewer than the machine has where it, or its container, is bound to some."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        work, period = CPU_LIMIT.read_text().split()
        return max(1, min(count, round(int(work) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return count

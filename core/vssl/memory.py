"""What this process may use of its machine: cores and memory."""

import os
import sys
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Holds two numbers: the microseconds of work that a container may do in each period, and the period's microseconds."""

MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Bytes that a container may use."""


def cores() -> int:
    """Cores that this process may use: fewer than the machine has if the process or its container is limited."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        work, period = CPU_LIMIT.read_text().split()
        return max(1, min(count, round(int(work) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return count


def memory_bytes() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's if that has fewer."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return whole

"""What this process may use of its machine: cores and memory."""

import ctypes
import os
import sys
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Holds two numbers: the microseconds of work that a container may do in each period, and the period's microseconds."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of `mallopt`, see malloc.h."""

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


def keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed for the next use, where it can (glibc).

    Otherwise each decoded photograph and each layer of a network asks the system for memory and gives it back, and all
    its pages are fetched anew: on a virtual machine a quarter of a training step on photographs, and a tenth of what
    a server does with one of 3 megapixels.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, 2**30)
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)

"""How Python itself runs in a process that serves, and ends: its lock between threads, its garbage collector."""

import atexit
import gc
import os
import sys
import threading

LAST_SECONDS = 2.0
"""How long the interpreter may take to end below an engine that does not."""

ENGINE = "engine"
"""The name of the batchers' threads, in which models are loaded and run."""


def share_lock() -> None:
    """Give the engine's thread Python's lock almost at once; it needs it only between two batches.

    By default the event loop keeps it for 5 ms, which is a whole batch of a small model: one of them always waited.
    """
    sys.setswitchinterval(0.0005)


def spare_collector() -> None:
    """Let Python's garbage collector skip what stays for good.

    It took a sixth of the event loop's time. Requests hardly need it: reference counts free their images.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def leave_engines(status: int) -> None:
    """Let this process end with a status even where an engine's thread still loads a model or hangs: the interpreter's
    end would take away what its native code works with, which then aborts the process.
    """
    if any(thread.name == ENGINE for thread in threading.enumerate()):
        atexit.register(os._exit, status)
        late = threading.Timer(LAST_SECONDS, os._exit, (status,))  # Python waits for threads of a pool before that
        late.daemon = True
        late.start()

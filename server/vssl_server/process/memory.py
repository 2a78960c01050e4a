"""Memory that goes back to the system once the server is idle.

The C library keeps what decoded pictures have filled, in case they come again: hundreds of megabytes after a busy hour,
which other processes of the machine could use, and which look like a leak.
"""

import asyncio
import ctypes
import gc
from collections.abc import Callable

from vssl_server.wire.capacity import Pending

IDLE_SECONDS = 1.0
"""How long no request with a body may be there first; health is asked all the time."""

APART_SECONDS = 10.0
"""Between two times: what was given back must be fetched again, page by page."""


async def give_back_when_idle(pending: Pending, give_back: Callable[[], None], idle: float, apart: float) -> None:
    """Call `give_back`, in a thread, whenever there were requests and now there are none; for ever.

    Args:
        pending: counts the requests.
        give_back: such as `give_back_memory`.
        idle: seconds without a request before it.
        apart: seconds between two calls.
    """
    done = 0
    while True:
        answered = pending.answered
        await asyncio.sleep(idle)
        if answered == done or pending.bytes or answered != pending.answered:
            continue
        await asyncio.to_thread(give_back)
        done = answered
        await asyncio.sleep(apart)


def give_back_memory() -> None:
    """Free what only cycles hold, and ask the C library to return what it does not use, where it can (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))

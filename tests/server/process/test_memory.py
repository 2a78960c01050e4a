"""Memory goes back to the system once a busy server is idle."""

import asyncio
import ctypes
import re
from pathlib import Path

import pytest

from vssl_server.process.memory import give_back_memory, give_back_when_idle
from vssl_server.wire.capacity import Pending


def resident() -> int:
    """Bytes that this process holds."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library has no malloc_trim")
def test_what_the_c_library_keeps_is_given_back() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    # Pieces under the size that is mapped on its own, each 33rd of them kept, so that the heap can't shrink at its end.
    pieces = [library.malloc(64 * 1024) for _ in range(3300)]
    for piece in pieces:
        ctypes.memset(piece, 1, 64 * 1024)
    for place, piece in enumerate(pieces):
        if place % 33:
            library.free(piece)
    full = resident()
    give_back_memory()
    freed = full - resident()
    for piece in pieces[::33]:
        library.free(piece)
    assert freed > 150 * 2**20


def test_it_is_given_back_once_after_each_busy_time_and_never_within_one() -> None:
    asyncio.run(_busy_twice())


async def _busy_twice() -> None:
    pending, calls = Pending(1000), []

    def give_back() -> None:
        calls.append(pending.bytes)

    task = asyncio.create_task(give_back_when_idle(pending, give_back, idle=0.01, apart=0.0))
    await asyncio.sleep(0.1)
    assert calls == []  # nothing was asked yet
    for busy in (1, 2):
        with pending.request() as held:
            held.reach(10)
            await asyncio.sleep(0.1)
            assert len(calls) == busy - 1
        while len(calls) < busy:
            await asyncio.sleep(0.01)
        with pending.request():  # health, without a body
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
    task.cancel()
    assert calls == [0, 0]

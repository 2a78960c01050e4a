"""Work of the event loop that is large enough for a thread."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BODY_BYTES = 64 * 1024
"""JSON of so many bytes takes a millisecond or so to parse."""

LARGE_ANSWER_IMAGES = 16
"""The answer for so many images takes as long to write."""


async def in_thread_if(large: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do large work in a thread, so that the loop serves others meanwhile; for small work a thread would cost more."""
    if large:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)

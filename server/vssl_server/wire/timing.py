"""The header that tells a client where its request's time went."""

import time


def server_timing(started: float, **parts: float) -> dict[str, str]:
    """`Server-Timing`, in milliseconds: `total` of a request that began at `started` on the monotonic clock, then
    `parts` of it, given in seconds.
    """
    seconds = {"total": time.monotonic() - started, **parts}
    return {"Server-Timing": ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())}

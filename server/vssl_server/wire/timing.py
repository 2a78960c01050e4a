"""The header that tells a client where its request's time went."""

import time


def server_timing(started: float, queue_seconds: float, inference_seconds: float) -> dict[str, str]:
    """`Server-Timing`, in milliseconds, of a request that came at `started` on the monotonic clock."""
    seconds = {"total": time.monotonic() - started, "queue": queue_seconds, "inference": inference_seconds}
    return {"Server-Timing": ", ".join(f"{name};dur={value * 1000:.3f}" for name, value in seconds.items())}

"""How long to wait before another try. Embedding changes nothing on the server, so repeating a request is safe."""

import contextlib
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST, LONGEST = 0.5, 30.0
"""Seconds: the wait before the first retry, and the longest that a server may ask for with Retry-After."""


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait after failed attempt 0, 1, 2, …: doubling, or what the server asks for if that is longer.

    Up to a half is taken off or added at random, so that clients that failed together don't come back together.
    """
    backoff = min(FIRST * 2.0 ** min(attempt, 50), LONGEST) * random.uniform(0.5, 1.0)
    asked = min(retry_after or 0.0, LONGEST) * random.uniform(1.0, 1.25)
    return max(backoff, asked)


def parse_retry_after(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number of seconds or a date; None if it says nothing."""
    if header is None:
        return None
    with contextlib.suppress(ValueError):  # no number: then a date
        return max(0.0, float(header))
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())

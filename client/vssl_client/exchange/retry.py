"""How long to wait before another try. A request may be repeated, because embedding changes nothing on the server."""

import contextlib
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST, LONGEST = 0.5, 30.0
"""Seconds: the wait before the first retry, and the longest that a server may ask for with Retry-After."""


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait after failed attempt 0, 1, 2, …: doubling, or what the server asks for if that is longer.

    The result is random by up to a half, so clients that failed together don't return together.
    """
    backoff = min(FIRST * 2.0 ** min(attempt, 50), LONGEST) * random.uniform(0.5, 1.0)
    wanted = min(retry_after or 0.0, LONGEST) * random.uniform(1.0, 1.25)
    return max(backoff, wanted)


def parse_retry_after(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number of seconds or a date; None if it holds neither."""
    if header is None:
        return None
    with contextlib.suppress(ValueError):  # a date otherwise
        return max(0.0, float(header))
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())

"""How long a request may take at most, as it says itself."""

import math
from collections.abc import Mapping

from vssl_server.wire.errors import ApiError

TIMEOUT = "VSSL-Timeout"
"""The header with the seconds that a request's client waits for its answer."""


def timeout_of(headers: Mapping[str, str]) -> float | None:
    """The seconds in the header, if it is there.

    Raises:
        ApiError: 400, it is no positive number.
    """
    text = headers.get(TIMEOUT)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ApiError(400, "invalid_timeout", f"{TIMEOUT} must be a number of seconds over 0", param=TIMEOUT)
    return seconds


def from_microseconds(timeout: object) -> float | None:
    """The parameter `timeout` of the Open Inference Protocol → seconds; None where it is absent or 0, which is none.

    Raises:
        ApiError: 400, it is no whole number.
    """
    if timeout is not None and (type(timeout) is not int or timeout < 0):
        raise ApiError(400, "invalid_timeout", f"timeout is {timeout!r}, not a whole number of microseconds", "timeout")
    return timeout / 1e6 if timeout else None


def least(*timeouts: float | None) -> float | None:
    """The shortest of those that there are."""
    return min((timeout for timeout in timeouts if timeout is not None), default=None)

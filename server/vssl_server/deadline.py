"""How long a request may take at most, as it says itself."""

import math
from collections.abc import Mapping

from vssl_server.errors import ApiError

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

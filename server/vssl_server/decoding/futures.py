"""Results that several threads may set: the first one does."""

from concurrent.futures import Future, InvalidStateError
from typing import Any


def settle(future: "Future[Any]") -> bool:
    """Whether the result or the error may be set now: nobody has, and it was not cancelled, nor can be from here on."""
    try:
        return not future.done() and future.set_running_or_notify_cancel()
    except InvalidStateError:  # another thread has settled it since the question
        return False

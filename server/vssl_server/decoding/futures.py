"""Results that several threads may set: the first one does, the others change nothing."""

from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

R = TypeVar("R")


def settle(future: "Future[Any]") -> bool:
    """Whether the caller may set the result or the error now. From here on nobody else may, or can cancel it."""
    try:
        return not future.done() and future.set_running_or_notify_cancel()
    except InvalidStateError:  # another thread has settled it since the question
        return False


def succeed(future: "Future[R]", result: R) -> None:
    """Set the result, unless the future is settled or cancelled."""
    if settle(future):
        future.set_result(result)


def fail(future: "Future[Any]", error: BaseException) -> None:
    """Set the error, unless the future is settled or cancelled."""
    if settle(future):
        future.set_exception(error)

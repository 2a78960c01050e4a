"""How long a request may take: to come in, and to be answered."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from types import TracebackType

from vssl_server.decoding.request import BadImagesError, Refusal, TooManyPixelsError
from vssl_server.engine.health import PROBE_SECONDS
from vssl_server.engine.jobs import EngineStoppedError, InferenceError
from vssl_server.models.registry import ModelRegistry
from vssl_server.wire.capacity import OverloadedError
from vssl_server.wire.errors import ApiError, busy, clipped, first_few

TIMEOUT = "VSSL-Timeout"
"""The header with the seconds for which the client waits for its answer."""


def timeout_of(headers: Mapping[str, str]) -> float | None:
    """The seconds in the header, if it is there.

    Raises:
        ApiError: 400, it is not a positive number.
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
    """The parameter `timeout` of the Open Inference Protocol → seconds; None where it is absent or 0, which means no
    limit.

    Raises:
        ApiError: 400, it is not a whole number.
    """
    if timeout is not None and (type(timeout) is not int or timeout < 0):
        raise ApiError(400, "invalid_timeout", f"timeout is {timeout!r}, not a whole number of microseconds", "timeout")
    return timeout / 1e6 if timeout else None


def shortest(*timeouts: float | None) -> float | None:
    """The shortest of those that are given."""
    return min((timeout for timeout in timeouts if timeout is not None), default=None)


class Receiving:
    """Around the reading of a request. One of `administration` may come while no model can answer: it may help.

    This and `WithinDeadline` are classes, as the loop keeps account of each asynchronous generator: that would take
    longer than all else that they do.

    Raises:
        ApiError: 503, the server can't serve, or was told to stop and the rest of the body did not come in time;
            408, it did not come in time.
    """

    def __init__(self, registry: ModelRegistry, administration: bool = False) -> None:
        self._registry, self._administration = registry, administration

    async def __aenter__(self) -> None:
        registry = self._registry
        if registry.draining or (registry.state != "ready" and not self._administration):
            raise busy(503, "not_ready", f"the server is {registry.state}", PROBE_SECONDS if registry.failed else 1)
        self._timeout = asyncio.timeout(registry.settings.receive_seconds)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            # The rest of the body must not be taken for the next request.
            message = f"the body did not come within {self._registry.settings.receive_seconds:g} seconds"
            raise ApiError(408, "request_timeout", message, headers={"Connection": "close"}) from None
        if isinstance(error, asyncio.CancelledError) and self._registry.draining:
            raise busy(503, "not_ready", "the server is stopping") from None


class WithinDeadline:
    """Around the embedding of a request: ends it at its deadline, and turns errors into those that clients understand.

    Args:
        server: the server's own limit in seconds.
        request: that of the request, if it has one; the shorter of the two counts.
        field: where the images stood in the request.
        names: what the request calls them, if it does.

    Raises:
        ApiError: 413, 422, 429, 500, 503 or 504.
    """

    def __init__(self, server: float, request: float | None, field: str, names: Sequence[str | None] = ()) -> None:
        self._limit = server if request is None else min(server, request)
        self._field, self._names = field, names

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(self._limit)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            error = late
        answer = None if error is None else self._answer(error)
        try:
            if answer is not None:
                raise answer from None
        finally:
            del answer, error  # what is raised knows of this call, and would be kept by it until garbage is collected

    def _answer(self, error: BaseException) -> ApiError | None:
        """What the client is told; None for an error that is none of embedding's."""
        match error:
            case BadImagesError():
                return _bad_images(error.refused, error.images, self._field, self._names)
            case TooManyPixelsError():
                return ApiError(413, "too_many_pixels", str(error), param=self._field)
            case OverloadedError():
                return busy(429, "queue_full", f"the server is busy: {error}", error.seconds)
            case InferenceError():
                return ApiError(500, "inference_failed", str(error))
            case EngineStoppedError():
                return busy(503, "not_ready", str(error), PROBE_SECONDS)
            case TimeoutError():
                return ApiError(504, "deadline_exceeded", f"no answer within {self._limit:g} seconds")
        return None


def _bad_images(refused: Mapping[int, Refusal], images: int, field: str, names: Sequence[str | None]) -> ApiError:
    reasons = []
    for index, refusal in refused.items():
        name = names[index] if names else None
        reasons.append(f"{field}[{index}]{f' ({clipped(name, 100)})' if name else ''}: {refusal.message}")
    message = f"{len(reasons)} of {images} images can't be embedded: {first_few(reasons)}"
    return ApiError(422, "invalid_image", message, param=f"{field}[{next(iter(refused))}]")

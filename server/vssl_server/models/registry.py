"""What every protocol shares: the served models, readiness, the deadline, and errors that clients understand."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request

from vssl_server.decoding.request import BadImagesError, Refusal, TooManyPixelsError
from vssl_server.engine.batcher import EngineStoppedError, InferenceError
from vssl_server.engine.health import PROBE_SECONDS
from vssl_server.engine.model import Model, Result
from vssl_server.observed import metrics
from vssl_server.observed.request_log import note
from vssl_server.settings import Settings
from vssl_server.wire.capacity import OverloadedError, Pending
from vssl_server.wire.errors import ApiError, busy, clipped, several

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BODY = 64 * 1024
"""Bytes of JSON that take a millisecond or so to parse."""
LARGE_ANSWER = 16
"""Images whose answer does."""
END_SECONDS = 5.0
"""For which the end waits for what an engine still computes: whoever asked for it has an answer, 504 at the worst."""
SOON = 0.1
"""Seconds for which an answer is worth having whether or not somebody still waits for it."""


@dataclass
class Service:
    """What every route sees. `draining` is set when the server was told to stop."""

    settings: Settings
    models: Sequence[Model]
    draining: bool = False
    pending: Pending = field(init=False)
    """The bodies in memory."""

    def __post_init__(self) -> None:
        self.pending = Pending(self.settings.max_pending_bytes)

    def start(self) -> None:
        """Start the engines, and show in the metrics whether they are warm."""
        metrics.show_build()
        for model in self.models:
            model.show()
            model.batcher.start()

    async def close(self) -> None:
        """End the engines, all at once; one that still warms up without a wait for it."""
        seconds = {model: END_SECONDS if model.batcher.warm.done() else 0.0 for model in self.models}
        await asyncio.gather(*(asyncio.to_thread(model.batcher.close, limit) for model, limit in seconds.items()))
        for model in self.models:
            model.hide()

    @property
    def state(self) -> str:
        """`ready`: some model can answer; `draining`; or `unavailable`: none can, or one is still warming up."""
        if self.draining:
            return "draining"
        ready = [model.ready for model in self.models]
        if all(ready):
            return "ready"
        return "ready" if any(ready) and all(model.batcher.warm.done() for model in self.models) else "unavailable"

    @property
    def failed(self) -> list[Model]:
        """The models that could answer once and can't now."""
        return [model for model in self.models if model.batcher.warm.done() and not model.ready]

    @property
    def unanswered(self) -> float:
        """Seconds for which no model has answered, though asked."""
        return min(model.batcher.health.unanswered for model in self.models)

    def model(self, name: str | None) -> Model:
        """The served model of that name, or of the first one's; the version that was loaded last.

        Raises:
            ApiError: 404, there is none.
        """
        for model in reversed(self.models):
            if model.manifest.name == (name or self.models[0].manifest.name):
                return model
        served = ", ".join(model.manifest.name for model in self.models)
        raise ApiError(404, "model_not_found", f"no model {name!r}; served here: {served}", param="model")

    @asynccontextmanager
    async def receiving(self, administration: bool = False) -> AsyncIterator[None]:
        """Around the reading of a request; one of administration may mend a server that can't serve.

        Raises:
            ApiError: 503, the server can't serve, or was told to stop and the rest of the body did not come in time;
                408, it did not come in time.
        """
        limit = self.settings.receive_seconds
        if self.draining or (self.state != "ready" and not administration):
            raise busy(503, "not_ready", f"the server is {self.state}", PROBE_SECONDS if self.failed else 1)
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError:
            # The rest of the body must not be taken for the next request.
            message = f"the body did not come within {limit:g} seconds"
            raise ApiError(408, "request_timeout", message, headers={"Connection": "close"}) from None
        except asyncio.CancelledError:
            if self.draining:
                raise busy(503, "not_ready", "the server is stopping") from None
            raise

    async def answer(
        self, work: Awaitable[Result], field: str, names: Sequence[str | None] = (), timeout: float | None = None
    ) -> Result:
        """The work's result within the deadline, which is the server's own or the request's `timeout` in seconds, if
        that is less. `field` and `names` say what the request calls its images.

        Raises:
            ApiError: 413, 422, 429, 500, 503 or 504.
        """
        limit = min(self.settings.deadline_seconds, math.inf if timeout is None else timeout)
        try:
            async with asyncio.timeout(limit):
                result = await work
            found = result.answer
            note(len(found.embeddings.uncertainty) + len(result.refused), found.queue_seconds, found.inference_seconds)
            return result
        except BadImagesError as error:
            raise _bad_images(error.refused, error.images, field, names) from None
        except TooManyPixelsError as error:
            raise ApiError(413, "too_many_pixels", str(error), param=field) from None
        except OverloadedError as error:
            raise busy(429, "queue_full", f"the server is busy: {error}", error.seconds) from None
        except InferenceError as error:
            raise ApiError(500, "inference_failed", str(error)) from None
        except EngineStoppedError as error:
            raise busy(503, "not_ready", str(error), PROBE_SECONDS) from None
        except TimeoutError:
            raise ApiError(504, "deadline_exceeded", f"no answer within {limit:g} seconds") from None


async def apart(large: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what is large in a thread, so that the loop serves others meanwhile; else a thread would cost more than it."""
    if large:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)


async def unless_disconnected(request: Request, work: Awaitable[Result]) -> Result:
    """The work's result, or ClientDisconnect as soon as nobody waits for it. The body has been read before."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        await request.receive()
        gone = True
        task.cancel()

    # A task to watch costs more than most answers, which come before anybody could have gone away.
    watcher: list[asyncio.Task[None]] = []
    timer = asyncio.get_running_loop().call_later(SOON, lambda: watcher.append(asyncio.ensure_future(watch())))
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        timer.cancel()
        for one in watcher:
            one.cancel()


def _bad_images(refused: Mapping[int, Refusal], images: int, field: str, names: Sequence[str | None]) -> ApiError:
    reasons = []
    for index, refusal in refused.items():
        name = names[index] if names else None
        reasons.append(f"{field}[{index}]{f' ({clipped(name, 100)})' if name else ''}: {refusal.message}")
    message = f"{len(reasons)} of {images} images can't be embedded: {several(reasons)}"
    return ApiError(422, "invalid_image", message, param=f"{field}[{next(iter(refused))}]")

"""One request that is embedded, from its headers to its answer: what every route that embeds does alike."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import ParamSpec, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from vssl_server.engine.model import Model
from vssl_server.engine.pipeline import EmbedResult
from vssl_server.models.deadline import Receiving, WithinDeadline, shortest, timeout_of
from vssl_server.models.registry import ModelRegistry
from vssl_server.models.threads import LARGE_ANSWER_IMAGES
from vssl_server.settings import Settings
from vssl_server.wire.timing import server_timing

P = ParamSpec("P")
T = TypeVar("T")

WATCH_AFTER_SECONDS = 0.1
"""For which an answer is worth having, whether or not somebody still waits for it."""


class Exchange:
    """A route goes through its methods in their order: `receiving`, `answering`, `written`, `response`.

    Args:
        request: its body has not been read.

    Raises:
        ApiError: 400, its deadline is no number of seconds.
    """

    def __init__(self, request: Request) -> None:
        self.started = self._received = time.monotonic()
        self.request = request
        self.registry: ModelRegistry = request.app.state.registry
        self._timeout = timeout_of(request.headers)

    @property
    def settings(self) -> Settings:
        """Of the server."""
        return self.registry.settings

    def receiving(self, administration: bool = False) -> Receiving:
        """Around the reading of the body; see `Receiving`."""
        return Receiving(self.registry, administration)

    def answering(self, field: str, names: Sequence[str | None] = (), timeout: float | None = None) -> "Answering":
        """Around the embedding. It ends at the deadline, and soon after the client has gone away.

        Args:
            field: where the images stood in the request.
            names: what the request calls them.
            timeout: in seconds, where the body has one too; the shortest counts.

        Raises:
            ApiError: as `WithinDeadline`.
            ClientDisconnect: nobody waits for the answer any more.
        """
        self._received = time.monotonic()
        limit = shortest(self._timeout, timeout)
        return Answering(self.request, WithinDeadline(self.settings.deadline_seconds, limit, field, names))

    def waiting(self, field: str) -> WithinDeadline:
        """Around what must be known before the body is read. It ends at the deadline.

        Args:
            field: of the request that it is about.

        Raises:
            ApiError: as `WithinDeadline`.
        """
        return WithinDeadline(self.settings.deadline_seconds, self._timeout, field)

    async def written(self, model: Model, images: int, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `write` makes of so many images' results; the time counts as the model's. A large answer is written in a
        thread.
        """
        with model.metrics.encode_seconds.time():
            if images > LARGE_ANSWER_IMAGES:
                return await asyncio.to_thread(write, *args, **kwargs)
            return write(*args, **kwargs)

    def timing(self, result: EmbedResult) -> dict[str, str]:
        """The header that says where the request's time went."""
        receive = self._received - self.started
        return server_timing(
            self.started, receive=receive, queue=result.queue_seconds, inference=result.inference_seconds
        )


class Answering:
    """A deadline, and a look whether the client is still there.

    A task to watch it costs more than most answers, which come before anybody could have gone away: it begins late. The
    body has been read before, so the next message says that the client has gone.
    """

    def __init__(self, request: Request, deadline: WithinDeadline) -> None:
        self._request, self._deadline = request, deadline
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        await self._deadline.__aenter__()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._watch)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        gone = self._gone and isinstance(error, asyncio.CancelledError)
        if gone:
            self._task.uncancel()
        # They know of this object: without a cycle, no pause to collect garbage has to end it and its request.
        del self._timer, self._watcher, self._task
        if gone:
            await self._deadline.__aexit__(None, None, None)
            raise ClientDisconnect from None
        await self._deadline.__aexit__(kind, error, traceback)

    def _watch(self) -> None:
        self._watcher = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        await self._request.receive()
        self._gone = True
        self._task.cancel()


def json_response(value: object, status: int = 200) -> Response:
    """An answer in JSON; arrays in it are written as lists."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")

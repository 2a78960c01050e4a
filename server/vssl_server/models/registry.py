"""The served models, each found by its name, and whether they can answer."""

import asyncio
from collections.abc import Sequence
from ctypes import c_bool
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vssl_server.engine.model import Model
from vssl_server.observed import metrics
from vssl_server.settings import Settings
from vssl_server.wire.capacity import Pending
from vssl_server.wire.errors import ApiError

END_SECONDS = 5.0
"""How long `close` waits for what an engine still computes. Its clients have an answer by then, 504 at worst."""


class Named(Protocol):
    """What can be looked up."""

    @property
    def name(self) -> str:
        """Under which clients know it."""

    @property
    def version(self) -> str:
        """Of its bundle."""


N = TypeVar("N", bound=Named)


def look_up(served: Sequence[N], name: str, version: str = "", param: str | None = None) -> N:
    """The model of that name and version; without a version the one of that name that was loaded last.

    Args:
        served: in the order in which they were loaded.
        name: as a request has it.
        version: the same; empty for any.
        param: where the name stood in the request, for the error.

    Raises:
        ApiError: 404, there is none.
    """
    known = [model for model in served if model.name == name]
    if not known:
        names = ", ".join(dict.fromkeys(model.name for model in served))
        raise ApiError(404, "model_not_found", f"no model {name!r}; served here: {names}", param)
    for model in reversed(known):
        if version in ("", model.version):
            return model
    versions = ", ".join(model.version for model in known)
    raise ApiError(404, "model_not_found", f"{name} is served in version {versions}, not {version}")


@dataclass
class ModelRegistry:
    """What every route sees. `draining` is set when the server is told to stop."""

    settings: Settings
    models: Sequence[Model]
    beside: c_bool | None = None
    """Whether all processes that serve the same port can answer, or could; they share it. None: this one is alone."""
    draining: bool = False
    pending: Pending = field(init=False)
    """The bodies in memory."""

    def __post_init__(self) -> None:
        self.pending = Pending(self.settings.max_pending_bytes)

    def start(self) -> None:
        """Start the engines, and show in the metrics whether they are warm."""
        if not self.settings.engine_process:  # where ONNX Runtime is not loaded for it alone
            metrics.show_build()
        for model in self.models:
            model.show()
            model.batcher.start()

    async def close(self) -> None:
        """End the engines, all at once; do not wait for one that still warms up."""
        seconds = {model: END_SECONDS if model.batcher.warm.done() else 0.0 for model in self.models}
        await asyncio.gather(*(asyncio.to_thread(model.batcher.close, limit) for model, limit in seconds.items()))
        for model in self.models:
            model.hide()

    @property
    def state(self) -> str:
        """`ready`: some model can answer; `draining`; `loading`: one is not warm yet, here or in a process beside this
        one; or `unavailable`: none can answer.
        """
        if self.draining:
            return "draining"
        if self.beside is not None and not self.beside.value:
            return "loading"
        ready = [model.ready for model in self.models]
        if not all(ready) and not all(model.batcher.warm.done() for model in self.models):
            return "loading"
        return "ready" if any(ready) else "unavailable"

    @property
    def failed(self) -> list[Model]:
        """The models that could answer before and can't now."""
        return [model for model in self.models if model.batcher.warm.done() and not model.ready]

    @property
    def unanswered(self) -> float:
        """Seconds for which no model has answered although there were requests."""
        return min(model.batcher.health.unanswered for model in self.models)

    def model(self, name: str | None) -> Model:
        """The served model of that name, or of the first one's; the version that was loaded last.

        Raises:
            ApiError: 404, there is none.
        """
        return look_up(self.models, name or self.models[0].name, param="model")

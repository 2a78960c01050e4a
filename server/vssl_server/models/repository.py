"""Which models are served, changed while the server runs, as Triton's repository extension does."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vssl.bundle.default import located
from vssl.errors import UsageError, VsslError
from vssl.objects.address import address_of
from vssl_server.engine.jobs import EngineStoppedError
from vssl_server.engine.model import Model
from vssl_server.models.registry import ModelRegistry
from vssl_server.wire.errors import ApiError, busy

OpenModel = Callable[[Path], Model]
IDLE_SECONDS = 0.1
"""Between two looks whether a replaced model still has work."""


class Parameters(BaseModel):
    """Of a load. `bundle` is a path on the server under `--model-root`; by default the one that the model came from."""

    model_config = ConfigDict(extra="ignore")

    bundle: str | None = None


class Repository:
    """Loads a model beside the served ones, then swaps, and ends the old one when its last request is answered."""

    def __init__(self, registry: ModelRegistry, open_model: OpenModel, locations: Sequence[Path]) -> None:
        """`locations` are the bundles of the registry's models, in their order.

        Raises:
            UsageError: `--model-root` is no folder.
        """
        root = registry.settings.model_root
        if root is not None and not root.is_dir():
            raise UsageError(f"--model-root {root}: no such folder")
        self.registry, self._open, self._root = registry, open_model, None if root is None else root.resolve()
        names = [model.name for model in registry.models]
        self._locations = dict(zip(names, locations, strict=bool(locations)))
        self._named = {location.resolve() for location in locations}
        self._retiring: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def load(self, name: str, bundle: str | None) -> None:
        """Serve a bundle under its name, in place of the same version, beside another one.

        Raises:
            ApiError: 404, no path is known for that name; 403, that bundle may not be loaded; 400, it can't be served,
                or has another name; 503, the server was told to stop.
        """
        location = self._locations.get(name)
        if bundle is not None:
            location = await asyncio.to_thread(self._allowed, bundle)
        if location is None:
            raise ApiError(404, "model_not_found", f"no model {name!r} was served here; name its bundle", "bundle")
        async with self._one_at_a_time:
            self._check_serving()
            try:
                model = await asyncio.to_thread(self._open, location)
            except VsslError as error:
                raise ApiError(400, "invalid_bundle", str(error), "bundle") from None
            except OSError as error:
                raise ApiError(400, "invalid_bundle", f"{error.strerror}: {location}", "bundle") from None
            if model.name != name:
                message = f"{location} holds {model.name!r}, not {name!r}"
                raise ApiError(400, "invalid_bundle", message, "bundle")
            model.batcher.start()
            try:
                await asyncio.wrap_future(model.batcher.warm)
                self._check_serving()
            except BaseException as error:  # a caller that went away too
                await asyncio.to_thread(model.batcher.close, self.registry.settings.deadline_seconds)
                if isinstance(error, EngineStoppedError):
                    del model  # it holds the error, and the error's traceback holds this function's variables
                    raise ApiError(400, "invalid_bundle", f"{location}: {error}", "bundle") from None
                raise
            self._swap(model)
            self._locations[name] = location

    async def unload(self, name: str) -> None:
        """Serve no version of it any more.

        Raises:
            ApiError: 404, there is none; 400, it is the last model; 503, the server was told to stop.
        """
        async with self._one_at_a_time:
            self._check_serving()
            gone = [model for model in self.registry.models if model.name == name]
            if not gone:
                self.registry.model(name)
            if len(gone) == len(self.registry.models):
                raise ApiError(400, "last_model", f"{name} is the only model; stop the server instead")
            self.registry.models = [model for model in self.registry.models if model not in gone]
            self._retire(gone)

    def _allowed(self, bundle: str) -> Path:
        """The path of a bundle that may be loaded: one under the root, or one named at the start. Errors reveal no
        other path.
        """
        try:
            if address_of(bundle) is not None:  # nobody makes this server ask others
                raise ApiError(403, "bundle_not_allowed", "a bundle at an address can't be loaded", "bundle")
            location = Path(self._root or "", located(bundle)).resolve()
        except UsageError as error:
            raise ApiError(400, "invalid_bundle", str(error), "bundle") from None
        except (OSError, ValueError, RuntimeError):  # a NUL, links in a circle
            raise ApiError(400, "invalid_bundle", "bundle is no path", "bundle") from None
        if location in self._named or (self._root is not None and location.is_relative_to(self._root)):
            return location
        if self._root is None:
            why = "only bundles that were named at the start may be loaded; --model-root DIR allows those in a folder"
        else:
            why = "this bundle is not under the folder of --model-root"
        raise ApiError(403, "bundle_not_allowed", why, "bundle")

    def _check_serving(self) -> None:
        if self.registry.draining:
            raise busy(503, "not_ready", "the server is draining")

    def _swap(self, model: Model) -> None:
        """Serve it as the last version of its name. Names keep their order, as the first is the default."""
        served, name, version = self.registry.models, model.name, model.version
        same = [one for one in served if (one.name, one.version) == (name, version)]
        now = [*(one for one in served if one not in same), model]
        names = list(dict.fromkeys(one.name for one in (*served, model)))
        self.registry.models = sorted(now, key=lambda one: names.index(one.name))
        for one in same:
            one.hide()
        model.show()
        self._retire(same)

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Every served model's two names, version and state; only those that can answer if `ready` is true."""
        return [
            {
                "name": name,
                "version": model.version,
                "state": "READY" if model.ready else "UNAVAILABLE",
                "reason": "",
            }
            for model in self.registry.models
            if model.ready or not ready
            for name in (model.name, f"{model.name}_image")
        ]

    def _retire(self, models: list[Model]) -> None:
        for model in models:
            task = asyncio.create_task(self._end(model))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _end(self, model: Model) -> None:
        # A request may have chosen this model and still be sending its body.
        await asyncio.sleep(self.registry.settings.receive_seconds)
        while model.batcher.in_flight:
            await asyncio.sleep(IDLE_SECONDS)
        await asyncio.to_thread(model.batcher.close, self.registry.settings.deadline_seconds)
        released = [(one.name, one.version) for one in self.registry.models]
        if (model.name, model.version) not in released:
            model.hide()

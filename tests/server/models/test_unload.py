"""What is left of a model that was unloaded or loaded again: no engine in memory, and gauges that tell the truth."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.conftest import png
from tests.tiny_model import write_tiny_bundle
from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Embeddings, Engine
from vssl_server.decoding.pool import Pool
from vssl_server.engine.model import Model
from vssl_server.http.app import create_app
from vssl_server.models.repository import Repository
from vssl_server.observed import metrics
from vssl_server.settings import Settings
from vssl_server.wire.errors import ApiError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("left", "right"):
        write_tiny_bundle(folder / name, name)
    write_tiny_bundle(folder / "left again", "left", version="2", seed=1)
    return folder


class Served:
    """An application without HTTP whose engines can be watched."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self.folder, self.pool = folder, pool
        self.settings = Settings(receive_seconds=0.01, model_root=folder)
        self.engines = weakref.WeakSet[Engine]()
        self.broken = False
        names = ["left", "right"]
        self.app = create_app(
            self.settings,
            [self.open(folder / name) for name in names],
            self.open,
            [folder / name for name in names],
        )
        self.repository: Repository = self.app.state.repository

    def open(self, location: Path) -> Model:
        bundle = open_bundle(location)
        engine = self.watched(bundle)
        return Model(bundle.manifest, engine, self.settings, self.pool)

    def watched(self, bundle: Bundle) -> Callable[[Pixels], Embeddings]:
        engine, broken = Engine(bundle, 1), self.broken
        self.engines.add(engine)

        def infer(images: Pixels) -> Embeddings:
            if broken and len(images):
                raise RuntimeError("no memory on the device")
            return engine(images)

        return infer

    async def embed(self, name: str) -> None:
        await self.app.state.registry.model(name).embed([png(3), png(4, 300, 300)], partial=False)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """As in a server that has started, whose collector looks at nothing that was there: only references count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def gauges(name: str = "left") -> dict[str, float]:
    return {
        f"{family.name} {sample.labels['version']}": sample.value
        for family in metrics.REGISTRY.collect()
        if family.name in ("vssl_ready", "vssl_queue_images")
        for sample in family.samples
        if sample.labels["model"] == name
    }


async def ended(served: Served, engines: int) -> None:
    for _ in range(1000):
        if len(served.engines) == engines:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(served.engines)} engines are in memory, not {engines}")


def with_app(folder: Path, test: Callable[[Served], "asyncio.Future[None] | object"]) -> None:
    async def run() -> None:
        with Pool(1) as pool:
            served = Served(folder, pool)
            async with served.app.router.lifespan_context(served.app):
                await asyncio.gather(
                    *(asyncio.wrap_future(model.batcher.warm) for model in served.app.state.registry.models)
                )
                await test(served)  # type: ignore[misc]

    asyncio.run(run())


@pytest.mark.usefixtures("no_collector")
def test_an_unloaded_engine_is_freed(folder: Path) -> None:
    async def test(served: Served) -> None:
        for name in ("left", "right"):
            await served.embed(name)
        assert gauges() == {"vssl_ready 1": 1, "vssl_queue_images 1": 0}
        await served.repository.unload("left")
        await ended(served, 1)
        assert gauges() == {}
        assert gauges("right") == {"vssl_ready 1": 1, "vssl_queue_images 1": 0}
        await served.repository.load("left", None)
        await served.embed("left")
        assert gauges() == {"vssl_ready 1": 1, "vssl_queue_images 1": 0}

    with_app(folder, test)


@pytest.mark.usefixtures("no_collector")
def test_a_model_loaded_again_frees_the_old_engine_and_keeps_its_gauges(folder: Path) -> None:
    async def test(served: Served) -> None:
        for _ in range(3):
            await served.embed("left")
            await served.repository.load("left", None)
            await ended(served, 2)
            assert gauges() == {"vssl_ready 1": 1, "vssl_queue_images 1": 0}
        await served.repository.load("left", str(served.folder / "left again"))
        assert gauges() == {
            f"{name} {v}": name == "vssl_ready" for name in ("vssl_ready", "vssl_queue_images") for v in (1, 2)
        }
        await served.repository.unload("left")
        await ended(served, 1)
        assert gauges() == {}

    with_app(folder, test)


@pytest.mark.usefixtures("no_collector")
def test_a_load_that_fails_changes_nothing(folder: Path) -> None:
    async def test(served: Served) -> None:
        served.broken = True
        with pytest.raises(ApiError, match="no memory on the device"):
            await served.repository.load("left", None)
        served.broken = False
        with pytest.raises(ApiError, match="holds 'right', not 'left'"):
            await served.repository.load("left", str(served.folder / "right"))
        assert gauges() == {"vssl_ready 1": 1, "vssl_queue_images 1": 0}
        await ended(served, 2)
        await served.embed("left")

    with_app(folder, test)

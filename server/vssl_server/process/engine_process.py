"""The one process that holds the models, where others speak HTTP and decode for it."""

import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path

from vssl.bundle.reading import open_bundle
from vssl.errors import VsslError
from vssl_server.engine.batcher import Batcher
from vssl_server.engine.health import PROBE_SECONDS
from vssl_server.engine.jobs import EngineStoppedError
from vssl_server.engine.model import new_batcher, show_engine
from vssl_server.engine.opening import LoadedLater, ServedEngine, open_engine
from vssl_server.engine.remote.fronts import Fronts, Model
from vssl_server.engine.statistics import Statistics
from vssl_server.models.registry import END_SECONDS
from vssl_server.observed import metrics
from vssl_server.process.interpreter import leave_engines, share_lock, spare_collector
from vssl_server.process.serve import LOOK_SECONDS, ends, logging_in_a_thread, say
from vssl_server.settings import Settings


def run_engine(
    listener: socket.socket, locations: Sequence[Path], settings: Settings, announce: Callable[[], object]
) -> None:
    """Embed for the fronts that connect, until a signal has come and they are gone.

    `announce` is called as soon as every model can answer.

    Raises:
        BundleError, VsslError: a bundle can't be trusted; a model can't be loaded or run, or has not answered for long.
    """
    stopping = threading.Event()
    for number in ends():
        signal.signal(number, lambda *_: stopping.set())
    metrics.show_build()
    with logging_in_a_thread(settings):
        models = dict(_model(location, settings) for location in locations)
        batchers = [model.batcher for model in models.values()]
        try:
            if _warm(batchers, stopping):
                spare_collector()
                share_lock()
                announce()
                fronts = Fronts(models)
                threading.Thread(target=fronts.accept, args=(listener,), name="accept", daemon=True).start()
                while not stopping.wait(LOOK_SECONDS):
                    fronts.tell()
                    if (silent := min(batcher.health.unanswered for batcher in batchers)) > PROBE_SECONDS:
                        raise VsslError(f"no model has answered for {silent:.0f} seconds; see the log")
                fronts.wait(settings.deadline_seconds + END_SECONDS)  # they have as long for what is in flight
        finally:
            for batcher in batchers:
                batcher.close(END_SECONDS if batcher.warm.done() else 0)
            leave_engines(0 if stopping.is_set() else 1)


def _model(location: Path, settings: Settings) -> tuple[str, Model]:
    """The id of a bundle, and its model, which its batcher's thread loads."""
    bundle = open_bundle(location)
    manifest, size = bundle.manifest, bundle.manifest.preprocessing.size

    def load() -> ServedEngine:
        threads, full, small = settings.engine_threads, settings.batch_size, settings.small_model
        engine = open_engine(bundle, threads, full, small, settings.precision)
        if engine.why:
            say(f"vssl: {engine.why}; --small-model and --no-small-model settle it")
        show_engine(engine, manifest.name, manifest.version)
        return engine

    batcher = new_batcher(LoadedLater(load), size, settings, Statistics(), metrics.ModelMetrics(manifest.name))
    batcher.start()
    return manifest.id, Model(batcher, size, manifest.outputs.dimension)


def _warm(batchers: Sequence[Batcher], stopping: threading.Event) -> bool:
    """Whether all are warm; false where the process is told to stop before. The first that can't be is an error."""
    cold = {batcher.warm for batcher in batchers}
    try:
        while cold and not stopping.is_set():
            warm, cold = wait(cold, LOOK_SECONDS, FIRST_EXCEPTION)
            for one in warm:
                one.result()
    except EngineStoppedError as error:
        raise VsslError(str(error)) from None
    return not stopping.is_set()

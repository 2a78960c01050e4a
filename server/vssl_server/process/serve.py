"""From a bundle to a listening process, and its orderly end."""

import asyncio
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ctypes import c_bool
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType

import uvicorn
from fastapi import FastAPI

from vssl.bundle.reading import Bundle, open_bundle
from vssl.cli import INTERRUPTED, echo
from vssl.engine import check_precision
from vssl.errors import UsageError, VsslError
from vssl.memory import keep_freed_memory
from vssl.uncertainty.familiarity import references_of
from vssl_gallery.store.opening import check_driver
from vssl_server.access.keys import Keys
from vssl_server.decoding.pool import Pool
from vssl_server.engine import health
from vssl_server.engine.jobs import EngineStoppedError
from vssl_server.engine.model import Model
from vssl_server.engine.opening import LoadedLater, open_engine
from vssl_server.engine.remote.batcher import RemoteBatcher
from vssl_server.engine.remote.ring import Shape
from vssl_server.http.app import create_app
from vssl_server.http.connection import IDLE_SECONDS, Protocol
from vssl_server.inference_v2.protocol import Catalogue
from vssl_server.models.registry import ModelRegistry
from vssl_server.models.repository import Repository
from vssl_server.observed.request_log import LogThread
from vssl_server.process import memory
from vssl_server.process.interpreter import leave_engines, share_lock, spare_collector
from vssl_server.process.listening import bind, bind_unix, duplicates, url
from vssl_server.settings import Settings
from vssl_server.wire.tls import check_tls, renew

LOOK_SECONDS = 0.5
"""Between two looks whether a model answers."""

LAST_SECONDS = 5.0
"""How long a process may take to end after all its models have failed."""


def say(line: str) -> None:
    """Write a line to standard error."""
    echo(line, err=True)


def say_where(line: str, _: str) -> None:
    """Write to standard error where the server is."""
    say(line)


def run(
    locations: Sequence[Path],
    settings: Settings,
    announce: Callable[[str, str], object] = say_where,
    engine_process: Path | None = None,
    beside: c_bool | None = None,
) -> None:
    """Serve the bundles until SIGTERM, SIGINT or SIGHUP, then answer what is in flight and return.

    It listens before the models are loaded, and says meanwhile that it is not ready. `announce` gets the line that says
    where and the address alone, as soon as every model can answer. With the path of the socket of an `engine_process`,
    that one holds the models. `beside` is shared by the processes that serve one port: whether all of them could
    answer. Of one that starts later nobody needs to know before it can.

    Raises:
        UsageError, BundleError: a bundle is not there, or can't be trusted, or two have one name and version.
        VsslError: the address can't be listened on, or a model can't be loaded or run.
    """
    keep_freed_memory()
    with ExitStack() as stack:
        sockets = _listen(stack, settings)
        if settings.metrics_port is not None:
            settings = settings.model_copy(update={"metrics_port": sockets[-1].getsockname()[1]})
        pool = stack.enter_context(Pool(settings.decode_threads, settings.max_pending_pixels))

        def open_model(location: Path) -> Model:
            bundle = open_bundle(location)
            if engine_process is not None:
                engine: LoadedLater | RemoteBatcher = _remote(bundle, settings, engine_process)
            else:
                precision = settings.precision
                check_precision(bundle, precision)
                threads, full, small = settings.engine_threads, settings.batch_size, settings.small_model
                engine = LoadedLater(partial(open_engine, bundle, threads, full, small, precision))
            return Model(bundle.manifest, engine, settings, pool, references_of(bundle))

        check_tls(settings)
        if settings.galleries is not None:
            check_driver(settings.galleries)
        models = [open_model(location) for location in locations]
        released = [(model.name, model.version) for model in models]
        if double := {f"{name} {version}" for name, version in released if released.count((name, version)) > 1}:
            raise UsageError(f"{', '.join(double)} appears twice: export one under another --name or --model-version")
        stack.enter_context(logging_in_a_thread(settings))
        app = create_app(settings, models, open_model, locations, beside)
        del models  # unloading a model must free its memory
        server = Server(_config(app, settings), app.state.registry, app.state.repository, announce)
        for number in ends():
            signal.signal(number, server.drain)
        server.run(sockets)
    leave_engines(0 if server.failure is None else server.failure.exit_status)
    if server.failure is not None:
        raise server.failure


def ends() -> list[int]:
    """The signals that end a server; not SIGHUP under `nohup`."""
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def _remote(bundle: Bundle, settings: Settings, path: Path) -> RemoteBatcher:
    manifest = bundle.manifest
    shape = Shape(settings.queue_images, manifest.preprocessing.size, manifest.outputs.dimension)
    return RemoteBatcher(path, manifest.id, settings.batch_size, shape)


def _listen(stack: ExitStack, settings: Settings) -> list[socket.socket]:
    """The server's socket, then that of the metrics if they have their own; both close with the stack."""
    shared = settings.several
    if settings.uds is not None:
        sockets = [stack.enter_context(bind_unix(settings.uds))]
    else:
        sockets = [stack.enter_context(bind(settings.host, settings.port, shared))]
    if settings.metrics_port is not None:
        sockets.append(stack.enter_context(bind(settings.host, settings.metrics_port, shared, "--metrics-port")))
    return sockets


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        # The client's address and scheme, as trusted proxies report them.
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        server_header=False,
        lifespan="on",
        access_log=False,
        log_config=None,
        timeout_keep_alive=IDLE_SECONDS,
        # Requests end by their deadline. A second later only bodies that never arrive are left.
        timeout_graceful_shutdown=math.ceil(settings.deadline_seconds) + 1,
    )


@contextmanager
def logging_in_a_thread(settings: Settings) -> Iterator[None]:
    """Log through a thread of its own: no slow reader of standard error can stop the server."""
    thread = LogThread(2)
    root, requests = logging.getLogger(), logging.getLogger("vssl.requests")
    root.addHandler(thread)
    requests.setLevel(logging.INFO if settings.log_requests else logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(thread)
        thread.close()


class Server(uvicorn.Server):
    """Uvicorn's server that says when it can serve, and turns readiness red as soon as it is told to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        registry: ModelRegistry,
        repository: Repository,
        announce: Callable[[str, str], object],
    ) -> None:
        super().__init__(config)
        self.registry, self.repository, self.announce = registry, repository, announce
        self.failure: VsslError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._grpc_end: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then announce it as soon as the models are warm; until then `/readyz` answers 503."""
        settings, sockets = self.registry.settings, sockets or []
        self._places = [url(sock, "http" if settings.tls_certificate is None else "https") for sock in sockets]
        if settings.grpc_port is not None:
            keys = Keys(settings.api_keys_file, settings.admin_keys_file)
            starting = _grpc().start(Catalogue(self.registry), keys, settings, self.repository)
            self.grpc, self.grpc_port = await starting
        several = [one for sock in sockets for one in duplicates(sock)]
        await super().startup([sock for sock in several if settings.uds is None or sock.family != socket.AF_UNIX])
        if settings.uds is not None:  # uvicorn opens these by their path alone
            listen, config = asyncio.get_running_loop().create_unix_server, self.config
            for sock in [sock for sock in several if sock.family == socket.AF_UNIX]:
                server = await listen(self._connection, sock=sock, ssl=config.ssl, backlog=config.backlog)
                self.servers.append(server)
        self._tasks.append(asyncio.create_task(self._announce()))
        idle, apart, pending = memory.IDLE_SECONDS, memory.APART_SECONDS, self.registry.pending
        freeing = memory.give_back_when_idle(pending, memory.give_back_memory, idle, apart)
        self._tasks.append(asyncio.create_task(freeing))
        if self.config.ssl is not None:
            self._tasks.append(asyncio.create_task(renew(self.config.ssl, settings)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in flight, by HTTP and gRPC at the same time; then the models end."""
        for task in self._tasks:
            task.cancel()
        if self.registry.settings.grpc_port is not None:
            self._grpc_end = asyncio.create_task(self.grpc.stop(self.registry.settings.deadline_seconds))
        await super().shutdown(sockets)

    async def _wait_tasks_to_complete(self) -> None:
        """What uvicorn waits for, within the time for it, before it ends the application."""
        await super()._wait_tasks_to_complete()
        if self._grpc_end is not None:
            await self._grpc_end

    def drain(self, sig: int, frame: FrameType | None) -> None:
        """Accept no more, and end when the requests in flight are answered. A second Ctrl-C ends at once."""
        if self.registry.draining and sig == signal.SIGINT:
            os._exit(INTERRUPTED)  # whatever still runs holds nothing that must be written
        self.registry.draining = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn's own handler while it runs; its own would raise the signal once more at the end."""
        self.drain(sig, frame)

    async def _watch(self) -> None:
        """End the process when no model has answered for long: only a new start can help. A worker ends sooner, as
        others can answer in its place.
        """
        alone = not self.registry.settings.several
        while self.registry.unanswered < (health.END_SECONDS if alone else health.PROBE_SECONDS):
            await asyncio.sleep(LOOK_SECONDS)
        if self.should_exit:
            return
        self.failure = VsslError(f"no model has answered for {self.registry.unanswered:.0f} seconds; see the log")
        self.should_exit = self.force_exit = True
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # nobody needs the traceback of being ended
        last = threading.Timer(LAST_SECONDS, os._exit, (1,))  # in case anything hangs at the end
        last.daemon = True
        last.start()

    def _connection(self) -> Protocol:
        return Protocol(self.config, self.server_state, self.lifespan.state, asyncio.get_running_loop())

    async def _announce(self) -> None:
        settings = self.registry.settings
        try:
            await asyncio.gather(*map(_warm, self.registry.models))
        except VsslError as error:
            self.failure, self.should_exit = error, True
            return
        if self.should_exit:
            return
        self._tasks.append(asyncio.create_task(self._watch()))
        spare_collector()
        share_lock()
        for model in self.registry.models:
            if settings.several:
                model.publish()  # before anybody hears that it can answer
            if model.why:
                say(f"vssl: {model.why}; --small-model and --no-small-model settle it")
        names = ", ".join(model.name for model in self.registry.models)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        grpc = "" if settings.grpc_port is None else f" and grpc://{host}:{self.grpc_port}"
        numbers = "" if settings.metrics_port is None else f", metrics on {self._places[-1]}/metrics"
        page = f", the page on {self._places[0]}/ui/" if settings.ui else ""
        self.announce(f"vssl: serving {names} on {self._places[0]}{grpc}{numbers}{page}", self._places[0])


async def _warm(model: Model) -> None:
    try:
        await asyncio.wrap_future(model.batcher.warm)
    except EngineStoppedError as error:
        raise VsslError(f"{model.name}: {error}") from None


def _grpc() -> ModuleType:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C++ core would repeat our errors on standard error
    try:
        import vssl_server.grpc.listening
    except ModuleNotFoundError as error:
        raise UsageError(f"--grpc-port needs {error.name}: pip install 'vssl[triton]'") from None
    return vssl_server.grpc.listening

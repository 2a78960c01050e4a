"""From a bundle to a listening process, and its orderly end."""

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType

import typer
import uvicorn

from vssl.bundle import open_bundle
from vssl.cli import INTERRUPTED
from vssl.errors import UsageError, VsslError
from vssl_server import health
from vssl_server.app import create_app
from vssl_server.batcher import EngineStoppedError
from vssl_server.engines import open_engine
from vssl_server.inference_protocol import Catalogue
from vssl_server.keys import Keys
from vssl_server.model import Model
from vssl_server.pool import Pool
from vssl_server.protocol import IDLE_SECONDS, Protocol
from vssl_server.repository import Repository
from vssl_server.service import Service
from vssl_server.settings import Settings

LOOK_SECONDS = 0.5
"""Between two looks at whether a model answers."""

LAST_SECONDS = 5.0
"""In which a process ends whose models have all failed."""


def say(line: str) -> None:
    """Write a line to standard error."""
    typer.echo(line, err=True)


def run(locations: Sequence[Path], settings: Settings, announce: Callable[[str], object] = say) -> None:
    """Serve the bundles until SIGTERM or SIGINT, then answer what is in flight and return.

    `announce` gets the line that says where, as soon as every model can answer.

    Raises:
        UsageError, BundleError: a bundle is not there, or can't be trusted or loaded, or two have one name and version.
        VsslError: the address can't be listened on, or a model can't run.
    """
    with (
        bind(settings.host, settings.port, settings.workers > 1) as sock,
        Pool(settings.decode_threads, settings.max_pending_pixels) as pool,
    ):

        def open_model(location: Path) -> Model:
            bundle = open_bundle(location)
            engine = open_engine(bundle, settings.engine_threads, settings.batch_size, settings.small_model)
            return Model(bundle.manifest, engine, settings, pool)

        check_tls(settings)
        models = [open_model(location) for location in locations]
        released = [(model.manifest.name, model.manifest.version) for model in models]
        if double := {f"{name} {version}" for name, version in released if released.count((name, version)) > 1}:
            raise UsageError(f"{', '.join(double)} is there twice: export one under another --name or --model-version")
        app = create_app(settings, models, open_model, locations)
        del models  # who unloads one wants its memory back
        if settings.log_requests:
            logging.getLogger("vssl.requests").addHandler(logging.StreamHandler())
            logging.getLogger("vssl.requests").setLevel(logging.INFO)
        config = uvicorn.Config(
            app,
            http=Protocol,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
            proxy_headers=False,  # nobody here asks who the client is
            ws="none",
            server_header=False,
            lifespan="on",
            access_log=False,
            log_config=None,
            timeout_keep_alive=IDLE_SECONDS,
            # Requests end by their deadline; what is left a second later is a body that does not come.
            timeout_graceful_shutdown=math.ceil(settings.deadline_seconds) + 1,
        )
        server = Server(config, app.state.service, app.state.repository, announce)
        for number in (signal.SIGINT, signal.SIGTERM):
            # Uvicorn raises the signal once more when it has ended: it must find a handler that lets us return.
            signal.signal(number, server.drain)
        server.run([sock])
    if server.failure is not None:
        raise server.failure


class Server(uvicorn.Server):
    """Uvicorn's server that says when it can serve, and turns readiness red as soon as it is told to stop."""

    def __init__(
        self, config: uvicorn.Config, service: Service, repository: Repository, announce: Callable[[str], object]
    ) -> None:
        super().__init__(config)
        self.service, self.repository, self.announce = service, repository, announce
        self.failure: VsslError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then announce it as soon as the models are warm; until then `/readyz` answers 503."""
        settings = self.service.settings
        if settings.grpc_port is not None:
            keys = Keys(settings.api_keys_file, settings.admin_keys_file)
            starting = _grpc().start(Catalogue(self.service), keys, settings, self.repository)
            self.grpc, self.grpc_port = await starting
        await super().startup(sockets)
        self._announcement = asyncio.create_task(self._announce())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in flight, by gRPC first: the models end with HTTP."""
        if self.service.settings.grpc_port is not None:
            await self.grpc.stop(self.service.settings.deadline_seconds)
        await super().shutdown(sockets)

    def drain(self, sig: int, frame: FrameType | None) -> None:
        """Take no more, and end when what is inside is answered."""
        self.service.draining = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn's own handler while it runs: SIGTERM or SIGINT drains, a second Ctrl-C ends at once."""
        if self.service.draining and sig == signal.SIGINT:
            os._exit(INTERRUPTED)  # whatever still runs holds nothing that must be written
        super().handle_exit(sig, frame)
        self.drain(sig, frame)

    async def _watch(self) -> None:
        """End the process when no model has answered for long, for only another start can help; a worker sooner, since
        the others can answer in its place.
        """
        alone = self.service.settings.workers == 1
        while self.service.unanswered < (health.END_SECONDS if alone else health.PROBE_SECONDS):
            await asyncio.sleep(LOOK_SECONDS)
        if self.should_exit:
            return
        self.failure = VsslError(f"no model has answered for {self.service.unanswered:.0f} seconds; see the log")
        self.should_exit = self.force_exit = True
        last = threading.Timer(LAST_SECONDS, os._exit, (1,))  # should anything that hangs hold up the end
        last.daemon = True
        last.start()

    async def _announce(self) -> None:
        for model in self.service.models:
            try:
                await asyncio.wrap_future(model.batcher.warm)
            except EngineStoppedError as error:
                self.failure = VsslError(f"{model.manifest.name}: {error}")
                self.should_exit = True
                return
        if self.should_exit:
            return
        self._watching = asyncio.create_task(self._watch())
        spare_collector()
        share_lock()
        for model in self.service.models:
            if model.why:
                say(f"vssl: {model.why}; --small-model and --no-small-model settle it")
        names = ", ".join(model.manifest.name for model in self.service.models)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        grpc = "" if self.service.settings.grpc_port is None else f" and grpc://{host}:{self.grpc_port}"
        scheme = "http" if self.service.settings.tls_certificate is None else "https"
        self.announce(f"vssl: serving {names} on {scheme}://{host}:{port}{grpc}")


def share_lock() -> None:
    """Let the engine's thread have Python's lock, which it needs between two batches only, almost at once.

    By default the event loop keeps it for 5 ms, a whole batch's time with a small model: one of them always waited.
    """
    sys.setswitchinterval(0.0005)


def spare_collector() -> None:
    """Let Python's garbage collector look at what requests leave, not again and again at what stays for good.

    It took a sixth of the event loop's time. Almost nothing of a request needs it: reference counts free the images.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def check_tls(settings: Settings) -> None:
    """Load the certificate once, so that a wrong one is told in one line.

    Raises:
        UsageError: it can't be read, or its key is another's.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:  # OpenSSL's own errors are OSErrors
            raise UsageError(f"--tls-certificate {certificate}, --tls-key {key}: {error}") from None


def _grpc() -> ModuleType:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C++ core writes to standard error what we say ourselves
    try:
        import vssl_server.grpc_service
    except ModuleNotFoundError as error:
        raise UsageError(f"--grpc-port needs {error.name}: pip install 'vssl[triton]'") from None
    return vssl_server.grpc_service


def bind(host: str, port: int, shared: bool = False) -> socket.socket:
    """A socket that holds the address, so that a busy port is known before a model is loaded.

    With `shared` others of this user may hold it too; those that listen get a share of the connections each.

    Raises:
        VsslError: the address is taken, not ours, or no address.
    """
    sock = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except (OSError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        reason = error.strerror if isinstance(error, OSError) else "no valid host name"
        raise VsslError(f"can't listen on {host}, port {port}: {reason}; choose with --host and --port") from error
    return sock

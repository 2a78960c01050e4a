"""Several processes behind one port, each a server; the kernel deals out connections.

Each has engines of its own, or one process more holds the engines of all.
"""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from ctypes import c_bool
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from vssl.bundle.reading import open_bundle
from vssl.cli import INTERRUPTED, echo
from vssl.engine import check_precision
from vssl.errors import UsageError, VsslError
from vssl.memory import cores
from vssl_server.engine.remote import channel
from vssl_server.observed.metrics import FOLDER
from vssl_server.process.engine_process import run_engine
from vssl_server.process.listening import bind
from vssl_server.process.serve import ends, run
from vssl_server.settings import Settings

logger = logging.getLogger("vssl.server")


def run_workers(locations: Sequence[Path], settings: Settings) -> None:
    """Serve the bundles in `settings.workers` processes until SIGTERM or SIGINT; every process answers what it has.

    With `settings.engine_process` one process more holds the models. A process that dies after it could serve is
    replaced; one that never could ends them all.

    Raises:
        UsageError, BundleError, VsslError: as `run`.
    """
    if settings.engine_process and not hasattr(os, "memfd_create"):
        raise UsageError("--engine-process needs Linux, whose processes can share memory without a name")
    for location in locations:
        check_precision(open_bundle(location), settings.precision)  # so that what is wrong is reported once
    workers = _Workers(locations)
    for number in ends():
        signal.signal(number, workers.stop)
    with ExitStack() as stack:
        ports = {"port": _hold(stack, settings.host, settings.port)}
        for name in ("grpc_port", "metrics_port"):
            if (port := getattr(settings, name)) is not None:
                ports[name] = _hold(stack, settings.host, port)
        # The processes share the cores, unless the user has set the threads.
        share = max(1, cores() // settings.workers)
        shared_out = ("decode_threads",) if settings.engine_process else ("decode_threads", "engine_threads")
        threads = {name: share for name in shared_out if name not in settings.model_fields_set}
        workers.folder = os.environ[FOLDER] = stack.enter_context(tempfile.TemporaryDirectory(prefix="vssl-metrics-"))
        if settings.engine_process:
            workers.engine_socket = stack.enter_context(_engine_socket(Path(workers.folder)))
        workers.run(settings.model_copy(update={**ports, **threads}))


Work = Callable[..., None]
"""What a process does with its pipe, the locations, the settings and what else it was given."""


class _Workers:
    def __init__(self, locations: Sequence[Path]) -> None:
        self.locations = locations
        self.processes: dict[Connection, SpawnProcess] = {}
        self.engine: Connection | None = None
        """Of the engine process, while there is one."""
        self.engine_socket: socket.socket | None = None
        """Where fronts connect to it. We keep it, so that they can also while another one starts."""
        self.ready: set[Connection] = set()
        self.announced = multiprocessing.get_context("spawn").RawValue(c_bool)
        """Whether all could answer; the workers read it."""
        self.stopping = False
        self.failure: str | None = None
        self.folder: str | None = None

    def run(self, settings: Settings) -> None:
        self.settings = settings
        resource_tracker.ensure_running()  # otherwise the first start does it, and unblocks SIGINT
        if self.engine_socket is not None:
            self.start_engine(self.engine_socket)
        for _ in range(settings.workers):
            self.start_worker()
        while self.processes:
            for pipe in wait(list(self.processes)):
                assert isinstance(pipe, Connection)
                self.hear(pipe)
        if self.failure is not None:
            raise VsslError(self.failure)

    def start_worker(self) -> None:
        path = None if self.engine_socket is None else Path(self.engine_socket.getsockname())
        self.start(partial(_serve, path), self.announced)

    def start_engine(self, listener: socket.socket) -> None:
        self.engine = self.start(_embed, listener)

    def start(self, work: Work, *arguments: socket.socket | c_bool) -> Connection | None:
        if self.stopping:
            return None
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, work, self.locations, self.settings, *arguments))
        # Ctrl-C reaches the whole group. The new process starts with it blocked, until it has a handler.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        process.start()
        self.processes[ours] = process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        theirs.close()
        if self.stopping:  # since we began: `stop` did not know of this one
            process.terminate()
        return ours

    def stop(self, number: int | None = None, _: FrameType | None = None) -> None:
        """The handler of signals; also called when a process failed to start."""
        if self.stopping and number == signal.SIGINT:
            for process in list(self.processes.values()):
                process.kill()
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
            os._exit(INTERRUPTED)
        self.stopping = True
        for process in list(self.processes.values()):
            process.terminate()

    def hear(self, pipe: Connection) -> None:
        """Read a message: a process can serve, or says why not, or has ended."""
        try:
            ready, text = pipe.recv()
        except (EOFError, OSError):
            self.ended(pipe)
            return
        if not ready and pipe in self.ready:
            logger.error("%s: %s", self.kind(pipe), text)
            return
        if not ready:
            self.failure = self.failure or text
            return
        self.ready.add(pipe)
        if pipe is self.engine:
            return
        if len(self.ready - {self.engine}) == self.settings.workers and not self.announced.value and not self.stopping:
            self.announced.value = True
            echo(text, err=True)

    def kind(self, pipe: Connection) -> str:
        return "the engine process" if pipe is self.engine else "a worker"

    def ended(self, pipe: Connection) -> None:
        process, was_ready, kind = self.processes.pop(pipe), pipe in self.ready, self.kind(pipe)
        process.join()
        pipe.close()
        self.ready.discard(pipe)
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        if self.stopping:
            return
        if was_ready:
            logger.error("%s ended with status %s; another takes its place", kind, process.exitcode)
            if pipe is self.engine and self.engine_socket is not None:
                self.start_engine(self.engine_socket)
            else:
                self.start_worker()
        else:
            self.failure = self.failure or f"{kind} ended with status {process.exitcode} before it could serve"
            self.stop()


def _hold(stack: ExitStack, host: str, port: int) -> int:
    """A free port, held for our processes until the stack is left; no other user can take it."""
    with bind(host, port) as alone:  # fails where anybody listens, sharing or not
        port = alone.getsockname()[1]
    stack.enter_context(bind(host, port, shared=True))
    return port


def _engine_socket(folder: Path) -> socket.socket:
    try:
        return channel.listen(folder / "engine")
    except OSError as error:
        raise VsslError(f"{folder} can't hold a socket: {error.strerror or error}; set TMPDIR to another") from None


def _serve(
    path: Path | None, pipe: Connection, locations: Sequence[Path], settings: Settings, announced: c_bool
) -> None:
    run(locations, settings, lambda line, _: pipe.send((True, line)), path, announced)


def _embed(pipe: Connection, locations: Sequence[Path], settings: Settings, listener: socket.socket) -> None:
    run_engine(listener, locations, settings, lambda: pipe.send((True, "")))


def _work(
    pipe: Connection, work: Work, locations: Sequence[Path], settings: Settings, *arguments: socket.socket | c_bool
) -> None:
    # Until `run` has handlers: the process that started us tells us when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    try:
        work(pipe, locations, settings, *arguments)
    except VsslError as error:
        pipe.send((False, str(error)))
        sys.exit(1)
    finally:
        if os.getppid() != multiprocessing.parent_process().pid:  # type: ignore[union-attr]
            shutil.rmtree(os.environ[FOLDER], ignore_errors=True)  # the parent was killed, so nobody else removes it


def _end_with_parent(pipe: Connection) -> None:
    with suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)

"""Several processes behind one port, each a server with engines of its own; the kernel deals out connections."""

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from vssl.bundle.reading import open_bundle
from vssl.cli import INTERRUPTED, echo
from vssl.errors import VsslError
from vssl.memory import cores
from vssl_server.observed.metrics import FOLDER
from vssl_server.process.listening import bind
from vssl_server.process.serve import ends, run
from vssl_server.settings import Settings

logger = logging.getLogger("vssl.server")


def run_workers(locations: Sequence[Path], settings: Settings) -> None:
    """Serve the bundles in `settings.workers` processes until SIGTERM or SIGINT; every process answers what it has.

    A process that dies after it could serve is replaced; one that never could ends them all.

    Raises:
        UsageError, BundleError, VsslError: as `run`.
    """
    for location in locations:
        open_bundle(location)  # so that a bad one is reported once
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
        threads = {
            name: share for name in ("decode_threads", "engine_threads") if name not in settings.model_fields_set
        }
        workers.folder = os.environ[FOLDER] = stack.enter_context(tempfile.TemporaryDirectory(prefix="vssl-metrics-"))
        workers.run(settings.model_copy(update={**ports, **threads}))


class _Workers:
    def __init__(self, locations: Sequence[Path]) -> None:
        self.locations = locations
        self.processes: dict[Connection, SpawnProcess] = {}
        self.ready: set[Connection] = set()
        self.announced = self.stopping = False
        self.failure: str | None = None
        self.folder: str | None = None

    def run(self, settings: Settings) -> None:
        self.settings = settings
        resource_tracker.ensure_running()  # otherwise the first start does it, and unblocks SIGINT
        for _ in range(settings.workers):
            self.start()
        while self.processes:
            for pipe in wait(list(self.processes)):
                assert isinstance(pipe, Connection)
                self.hear(pipe)
        if self.failure is not None:
            raise VsslError(self.failure)

    def start(self) -> None:
        if self.stopping:
            return
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.locations, self.settings))
        # Ctrl-C reaches the whole group. The new process starts with it blocked, until it has a handler.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        process.start()
        self.processes[ours] = process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        theirs.close()
        if self.stopping:  # since we began: `stop` did not know of this one
            process.terminate()

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
            logger.error("a worker: %s", text)
            return
        if not ready:
            self.failure = self.failure or text
            return
        self.ready.add(pipe)
        if len(self.ready) == self.settings.workers and not self.announced and not self.stopping:
            self.announced = True
            echo(text, err=True)

    def ended(self, pipe: Connection) -> None:
        process, was_ready = self.processes.pop(pipe), pipe in self.ready
        process.join()
        pipe.close()
        self.ready.discard(pipe)
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        if self.stopping:
            return
        if was_ready:
            logger.error("a worker ended with status %s; another takes its place", process.exitcode)
            self.start()
        else:
            self.failure = self.failure or f"a worker ended with status {process.exitcode} before it could serve"
            self.stop()


def _hold(stack: ExitStack, host: str, port: int) -> int:
    """A free port, held for our processes until the stack is left; no other user can take it."""
    with bind(host, port) as alone:  # fails where anybody listens, sharing or not
        port = alone.getsockname()[1]
    stack.enter_context(bind(host, port, shared=True))
    return port


def _work(pipe: Connection, locations: Sequence[Path], settings: Settings) -> None:
    # Until `run` has handlers: the process that started us tells us when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    try:
        run(locations, settings, lambda line, _: pipe.send((True, line)))
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

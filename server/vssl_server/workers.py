"""Several processes behind one port, each a server with engines of its own; the kernel deals out connections."""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import typer
from prometheus_client.multiprocess import mark_process_dead

from vssl.bundle import open_bundle
from vssl.errors import VsslError
from vssl.memory import cores
from vssl_server.metrics import FOLDER
from vssl_server.serving import bind, run
from vssl_server.settings import Settings

logger = logging.getLogger("vssl.server")


def run_workers(locations: Sequence[Path], settings: Settings) -> None:
    """Serve the bundles in `settings.workers` processes until SIGTERM or SIGINT; every process answers what it has.

    A process that dies after it could serve is replaced; one that never could ends them all.

    Raises:
        UsageError, BundleError, VsslError: as `run`.
    """
    for location in locations:
        open_bundle(location)  # so that a bad one is told once
    with ExitStack() as stack:
        ports = {"port": _hold(stack, settings.host, settings.port)}
        if settings.grpc_port is not None:
            ports["grpc_port"] = _hold(stack, settings.host, settings.grpc_port)
        # The processes share the cores, unless the user dealt them out.
        share = max(1, cores() // settings.workers)
        threads = {
            name: share for name in ("decode_threads", "engine_threads") if name not in settings.model_fields_set
        }
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vssl-metrics-"))
        os.environ[FOLDER] = folder
        _Workers(locations, settings.model_copy(update={**ports, **threads})).run()


class _Workers:
    def __init__(self, locations: Sequence[Path], settings: Settings) -> None:
        self.locations, self.settings = locations, settings
        self.processes: dict[Connection, SpawnProcess] = {}
        self.ready: set[Connection] = set()
        self.announced = self.stopping = False
        self.failure: str | None = None

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)
        for _ in range(self.settings.workers):
            self.start()
        while self.processes:
            for pipe in wait(list(self.processes)):
                assert isinstance(pipe, Connection)
                self.hear(pipe)
        if self.failure is not None:
            raise VsslError(self.failure)

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.locations, self.settings))
        process.start()
        theirs.close()
        self.processes[ours] = process

    def stop(self, *_: Any) -> None:  # noqa: ANN401 — a signal's number and frame
        self.stopping = True
        for process in self.processes.values():
            process.terminate()

    def hear(self, pipe: Connection) -> None:
        """A process can serve, or says why not, or has ended."""
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
        if len(self.ready) == self.settings.workers and not self.announced:
            self.announced = True
            typer.echo(text, err=True)

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
    """The port, free now and held for our processes until the stack is left; another user's can't take it."""
    with bind(host, port) as alone:  # fails where anybody listens, sharing or not
        port = alone.getsockname()[1]
    stack.enter_context(bind(host, port, shared=True))
    return port


def _work(pipe: Connection, locations: Sequence[Path], settings: Settings) -> None:
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    try:
        run(locations, settings, lambda line: pipe.send((True, line)))
    except VsslError as error:
        pipe.send((False, str(error)))
        sys.exit(1)


def _end_with_parent(pipe: Connection) -> None:
    with suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)

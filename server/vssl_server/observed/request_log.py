"""The log: a line of JSON for each request, and a thread that writes it, so that no request waits for the log's
reader.
"""

import logging
import os
import queue
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson
from opentelemetry import trace

from vssl_server.observed import metrics

LINES = 10_000
"""The most lines that wait to be written; more are dropped and counted."""

MAX_LINE = 4096
"""Characters of a line, and so 40 MB of them all."""

MAX_PATH = 512
"""Characters of a path in it."""

END_SECONDS = 1.0
"""How long the end of the process waits for a reader."""

logger = logging.getLogger("vssl.requests")


@dataclass
class Facts:
    """What is known about a request once it is embedded; None before."""

    images: int | None = None
    queue_seconds: float | None = None
    inference_seconds: float | None = None


FACTS: ContextVar[Facts | None] = ContextVar("vssl_facts", default=None)
"""Of the request that this task answers, if it will be logged."""


def note(images: int, queue_seconds: float, inference_seconds: float) -> None:
    """Note what came of the request of this task."""
    if (facts := FACTS.get()) is not None:
        facts.images, facts.queue_seconds, facts.inference_seconds = images, queue_seconds, inference_seconds


@dataclass
class Entry:
    """A line about a request that came at `started` on the monotonic clock, with `bytes` of body."""

    request_id: str
    method: str
    path: str
    route: str
    status: int | str
    started: float
    bytes: int
    client: str | None
    key: str | None
    facts: Facts
    traceparent: str | None = None

    def write(self) -> None:
        """Log it; `time` is in seconds since 1970."""
        path = self.path if len(self.path) <= MAX_PATH else self.path[:MAX_PATH] + "…"
        line: dict[str, Any] = {
            "time": round(time.time(), 6),
            "request_id": self.request_id,
            "request": f"{self.method} {path}",
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "seconds": round(time.monotonic() - self.started, 6),
            "bytes": self.bytes,
            "images": self.facts.images,
            "queue_ms": _milliseconds(self.facts.queue_seconds),
            "inference_ms": _milliseconds(self.facts.inference_seconds),
            "client": self.client,
            "key": self.key,
            "trace_id": _trace_id(self.traceparent),
        }
        logger.info(orjson.dumps(line).decode())


class LogThread(logging.Handler):
    """Writes lines to a file descriptor. A stalled reader costs lines, never a request."""

    def __init__(self, descriptor: int, lines: int = LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(lines)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line."""
        try:
            self._lines.put_nowait(self.format(record)[:MAX_LINE])
        except queue.Full:
            metrics.LOG_DROPPED.inc()

    def close(self) -> None:
        """Write what waits, if somebody reads it in time."""
        try:
            self._lines.put(None, timeout=END_SECONDS)
            self._thread.join(END_SECONDS)
        except queue.Full:
            pass
        super().close()

    def _write(self) -> None:
        for line in iter(self._lines.get, None):
            data = line.encode(errors="backslashreplace") + b"\n"
            try:
                # Not through sys.stderr: its lock, held for ever, would keep the process from ending.
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # nobody reads any more
                metrics.LOG_DROPPED.inc()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _trace_id(traceparent: str | None) -> str | None:
    """The id of our own span, or of the client's where nobody collects ours."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        return trace.format_trace_id(context.trace_id)
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 and parts[1].isalnum() else None

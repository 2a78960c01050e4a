"""Jobs: work on a gallery that one starts, asks about, and may stop. They live as long as the process."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from vssl.errors import VsslError
from vssl_server.background.worker import Worker
from vssl_server.wire.errors import ApiError, busy

Kind = Literal["calibrate", "maintain", "map", "snapshot", "restore", "import"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
Report = Callable[[float], None]
"""Tells which share of the work is done, and raises `Cancelled` where the work must stop."""

Work = Callable[[Report], Mapping[str, Any]]
"""What a job does, and its result."""

MOST_WAITING = 64
MOST_ENDED = 1000
KEPT_SECONDS = 24 * 3600.0
END_SECONDS = 2.0
"""For which the end of the process waits for the running job. Whatever it writes is whole or not there."""

logger = logging.getLogger("vssl.server")


class Cancelled(Exception):
    """Somebody asked the job to stop."""


@dataclass(eq=False)
class Job:
    """One job.

    Attributes:
        kind: what it does.
        gallery: to which gallery, by its real name.
        need: the scope that it needed, and that may stop it.
        own: the filter of the key that started it, None for a whole gallery; keys with another don't see it.
    """

    kind: Kind
    gallery: str
    need: str
    own: Hashable | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    state: State = "queued"
    progress: float | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    result: Mapping[str, Any] | None = None
    error: dict[str, str] | None = None
    stopping: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.state in ("done", "failed", "cancelled")

    def document(self) -> dict[str, Any]:
        """What clients see of it."""
        shown = ("id", "kind", "gallery", "state", "progress", "created_at", "finished_at", "result", "error")
        return {name: getattr(self, name) for name in shown}

    def report(self, share: float) -> None:
        """See `Report`."""
        self.progress = min(max(share, 0.0), 1.0)
        if self.stopping:
            raise Cancelled

    def end(self, state: State) -> None:
        """It is over."""
        self.state, self.finished_at = state, datetime.now(UTC)
        if state == "done":
            self.progress = 1.0


class Jobs:
    """Runs jobs one after the other. Ended ones are kept for a day, and the `MOST_ENDED` newest of them at most."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._worker = Worker("vssl-jobs")
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._closed = False

    def submit(self, job: Job, work: Work) -> Job:
        """Queue it. Where the same is waiting already, that job is meant.

        Raises:
            ApiError: 429, too many wait; 503, the server ends.
        """
        with self._lock:
            self._forget()
            waiting = [one for one in self._jobs.values() if one.state == "queued"]
            for one in waiting:
                if _repeatable(job) and (one.kind, one.gallery, one.own) == (job.kind, job.gallery, job.own):
                    return one
            if self._closed:
                raise busy(503, "not_ready", "the server is stopping")
            if len(waiting) >= MOST_WAITING:
                raise busy(429, "queue_full", f"{len(waiting)} jobs are waiting; ask again when some have ended", 10)
            self._jobs[job.id] = job
        self._worker.submit(lambda: self._do(job, work))
        return job

    def all(self) -> list[Job]:
        """The newest first."""
        with self._lock:
            self._forget()
            return list(reversed(self._jobs.values()))

    def get(self, name: str) -> Job:
        """The job of that id.

        Raises:
            ApiError: 404.
        """
        with self._lock:
            self._forget()
            if name in self._jobs:
                return self._jobs[name]
        raise unknown_job(name)

    def cancel(self, job: Job) -> None:
        """Ask it to stop. One that waits never begins; one that runs stops at its next step, or ends if it has none."""
        with self._lock:
            job.stopping = True
            if job.state == "queued":
                job.end("cancelled")

    def close(self, timeout: float = END_SECONDS) -> None:
        """Cancel all, and wait a little for the one that runs."""
        with self._lock:
            self._closed = True
        for job in self.all():
            if not job.ended:
                self.cancel(job)
        self._worker.close(timeout)

    def _do(self, job: Job, work: Work) -> None:
        with self._lock:
            if job.ended:
                return
            job.state = "running"
        try:
            job.result = work(job.report)
        except Cancelled:
            job.end("cancelled")
        except VsslError as error:
            job.error = {"code": getattr(error, "code", "invalid_request"), "message": str(error)}
            job.end("failed")
        except Exception:
            logger.exception("job %s (%s of %s) failed", job.id, job.kind, job.gallery)
            job.error = {"code": "internal_error", "message": "the server failed on this job; its log says why"}
            job.end("failed")
        else:
            job.end("done")

    def _forget(self) -> None:
        """Let go of ended jobs that are a day old, and of the oldest where there are too many."""
        ended = [job for job in self._jobs.values() if job.ended]
        old = datetime.fromtimestamp(self._clock() - KEPT_SECONDS, UTC)
        for place, job in enumerate(reversed(ended)):
            if place >= MOST_ENDED or (job.finished_at is not None and job.finished_at < old):
                del self._jobs[job.id]


def unknown_job(name: str) -> ApiError:
    """404: the same for a job that is not there as for one that the key may not see."""
    return ApiError(404, "unknown_job", f"no job {name!r}; jobs are kept for a day, and until the server ends")


def _repeatable(job: Job) -> bool:
    """Whether one that waits does all that another would: it sees what has been written until it begins."""
    return job.kind in ("calibrate", "maintain", "map")

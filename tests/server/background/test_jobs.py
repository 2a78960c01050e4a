"""Jobs tell the truth about themselves: what waits, runs, ended, failed, and was stopped; and they are bounded."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from vssl.errors import UsageError
from vssl_gallery.errors import StoreFull
from vssl_server.background.jobs import MOST_WAITING, Job, Jobs, Kind, Report
from vssl_server.wire.errors import ApiError

SECONDS = 60


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    running = Jobs()
    yield running
    running.close(SECONDS)


class Gate:
    """Work that begins, reports what it is told to, and waits for the test."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self, report: Report) -> Mapping[str, Any]:
        report(0.25)
        self.begun.set()
        assert self.let.wait(SECONDS)
        report(0.5)
        return {"rows": 3}


def job(kind: Kind = "calibrate", gallery: str = "shoes", own: str | None = None) -> Job:
    return Job(kind, gallery, "write", own)


def ended(of: Job) -> Job:
    end = time.monotonic() + SECONDS
    while not of.ended:
        assert time.monotonic() < end
        time.sleep(0.001)
    return of


def failing(error: Exception) -> Callable[[Report], Mapping[str, Any]]:
    def work(_: Report) -> Mapping[str, Any]:
        raise error

    return work


def test_the_life_of_a_job(jobs: Jobs) -> None:
    gate, other = Gate(), Gate()
    first, second = jobs.submit(job(), gate), jobs.submit(job("maintain"), other)
    assert gate.begun.wait(SECONDS)
    assert (first.state, first.progress, second.state, second.progress) == ("running", 0.25, "queued", None)
    assert [one.id for one in jobs.all()] == [second.id, first.id]
    gate.let.set()
    assert other.begun.wait(SECONDS)
    assert first.document() == {
        "id": first.id,
        "kind": "calibrate",
        "gallery": "shoes",
        "state": "done",
        "progress": 1.0,
        "created_at": first.created_at,
        "finished_at": first.finished_at,
        "result": {"rows": 3},
        "error": None,
    }
    jobs.cancel(second)
    assert second.state == "running"  # it stops at its next step
    other.let.set()
    assert (ended(second).state, second.result, second.progress) == ("cancelled", None, 0.5)
    with pytest.raises(ApiError, match="no job 'x'"):
        jobs.get("x")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("no row has a label"), "invalid_request", "no row has a label"),
        (StoreFull("the disk is full"), "store_full", "the disk is full"),
        (KeyError("secret"), "internal_error", "the server failed on this job; its log says why"),
    ],
)
def test_a_failed_job_names_its_error(jobs: Jobs, error: Exception, code: str, message: str) -> None:
    failed = ended(jobs.submit(job(), failing(error)))
    assert (failed.state, failed.error, failed.result) == ("failed", {"code": code, "message": message}, None)
    assert ended(jobs.submit(job(), lambda _: {})).state == "done"


def test_the_same_waits_once_and_others_are_bounded(jobs: Jobs) -> None:
    gate = Gate()
    jobs.submit(job(), gate)
    assert gate.begun.wait(SECONDS)
    waiting = jobs.submit(job(), lambda _: {})
    assert jobs.submit(job(), lambda _: {}) is waiting
    others = [job("map"), job("map", own="north"), job("maintain"), job(gallery="boots")]
    assert len({jobs.submit(one, lambda _: {}).id for one in others}) == 4
    assert jobs.submit(job("snapshot"), lambda _: {}) is not jobs.submit(job("snapshot"), lambda _: {})
    for _ in range(MOST_WAITING - 7):
        jobs.submit(job("snapshot"), lambda _: {})
    with pytest.raises(ApiError) as raised:
        jobs.submit(job("snapshot"), lambda _: {})
    assert (raised.value.status, raised.value.code) == (429, "queue_full")
    jobs.cancel(waiting)
    assert waiting.state == "cancelled"
    gate.let.set()


def test_a_day_later_it_is_forgotten() -> None:
    now = time.time()
    jobs = Jobs(clock=lambda: now)
    done = ended(jobs.submit(job(), lambda _: {}))
    assert jobs.all() == [done]
    now += 25 * 3600
    assert jobs.all() == []
    jobs.close(SECONDS)


def test_the_end_of_the_process_cancels_all_and_waits_for_nobody_long() -> None:
    jobs, gate = Jobs(), Gate()
    running, waiting = jobs.submit(job(), gate), jobs.submit(job("maintain"), lambda _: {})
    assert gate.begun.wait(SECONDS)
    jobs.close(0.01)
    assert (running.state, waiting.state) == ("running", "cancelled")
    with pytest.raises(ApiError, match="stopping"):
        jobs.submit(job(), lambda _: {})
    gate.let.set()
    assert ended(running).state == "cancelled"

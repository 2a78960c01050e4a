"""Requests to the routes of one gallery: answers in JSON, lists to their end, jobs waited for."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar
from urllib.parse import quote

from vssl.errors import VsslError
from vssl_client.errors import BadAnswer, ClientError
from vssl_client.exchange.calls import Call
from vssl_client.exchange.servers import Servers
from vssl_client.exchange.steps import Pause, Steps, sent
from vssl_client.galleries.remote import wire
from vssl_gallery.store.contract import Progress

T = TypeVar("T")

PAGE = 1000
"""Rows that are asked for in one request."""
ADDRESS_BYTES = 4000
"""Of ids in one query string: servers refuse long ones."""
WAITS = (0.05, 2.0)
"""Seconds between two questions how far a job is: first, and longest."""


class Requests:
    """Requests under `path`; what may be repeated is. Errors of galleries have the type of their code."""

    def __init__(self, path: str, servers: Servers, retries: int) -> None:
        self.path = path
        self._servers, self._retries = servers, retries

    def ask(
        self,
        method: str,
        path: str,
        document: object = None,
        params: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> Steps[Any]:
        """The answer to a request with this body."""
        body = None if document is None else wire.as_body(document)
        return (yield from self.json(Call(method, self.path + path, params or {}, body, repeatable=repeatable)))

    def all(self, path: str, params: Mapping[str, str] | None = None) -> Steps[list[Any]]:
        """All items of a list."""
        rows: list[Any] = []
        after: str | None = None
        while True:
            more = {**(params or {}), **({} if after is None else {"after": after})}
            answer = yield from self.json(Call("GET", path, more))
            some, after = read(partial(itemgetter("data", "next"), answer))
            rows += some
            if after is None:
                return rows

    def job(self, path: str, document: object, progress: Progress) -> Steps[Mapping[str, Any]]:
        """Begin a job, and wait for its end."""
        answer = yield from self.ask("POST", path, document, repeatable=False)
        job = read(partial(itemgetter("job"), answer))
        wait = WAITS[0]
        while read(partial(itemgetter("state"), job)) in ("queued", "running"):
            progress(job.get("progress") or 0.0)
            yield Pause(wait)
            wait = min(WAITS[1], wait * 1.5)
            job = yield from self.json(Call("GET", f"/v1/jobs/{quote(str(job['id']), safe='')}"))
        if job["state"] != "done":
            raise _failed(job)
        progress(1.0)
        return job.get("result") or {}

    def json(self, call: Call) -> Steps[Any]:
        """The answer in JSON."""
        return wire.parsed((yield from self.send(call)))

    def send(self, call: Call) -> Steps[bytes]:
        """The answer as bytes."""
        try:
            return (yield from sent(self._servers, self._retries, call))
        except ClientError as error:
            raise wire.as_gallery_error(error) from error


def _failed(job: Mapping[str, Any]) -> VsslError:
    error = job.get("error") or {}
    message = f"job {job.get('kind')} of {job.get('gallery')}: {error.get('message') or job.get('state')}"
    return wire.problem(error.get("code"), message) or VsslError(message)


def read(read: Callable[[], T]) -> T:
    """What an answer means.

    Raises:
        BadAnswer: it is not one of this interface.
    """
    try:
        return read()
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise BadAnswer(f"a gallery's answer is not one ({type(error).__name__}: {error})") from error


def short(ids: Sequence[str]) -> list[list[str]]:
    """The ids in runs that fit into an address."""
    runs: list[list[str]] = []
    size = ADDRESS_BYTES
    for id in ids:
        own = len(quote(id, safe="")) + 10
        if size + own > ADDRESS_BYTES or len(runs[-1]) == PAGE:
            runs.append([])
            size = 0
        runs[-1].append(id)
        size += own
    return runs

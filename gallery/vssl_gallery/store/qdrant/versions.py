"""How a call that writes many points becomes whole or nothing, and how a read sees one state.

A row is never changed. A new state of it is a new point, which says from which version on it counts (`_from`); the old
point is marked with the version from which on it does not (`_to`). Both mean nothing until the gallery's record names
that version, which is a change of a single point: the commit. A reader takes the version from the record first, and
then only points that count at it.

One writer at a time has the record (`token`), for a while (`expires`). It is taken by a conditional change, and so is
the commit: who was too slow has lost it, and its version goes among those that never count (`aborted`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from qdrant_client import models

from vssl_gallery.errors import GalleryError, StoreUnavailable, UnknownGallery
from vssl_gallery.store.qdrant.connection import Connection

RECORDS = "vssl"
"""The collection of records: of galleries, aliases, and the texts that galleries keep."""

LEASE = 60.0
"""Seconds for which a writer has the record without a sign of life. The clocks of all writers must agree by less."""

PATIENCE = 15.0
"""Seconds to wait for another writer."""


@dataclass(frozen=True)
class State:
    """What a gallery's record says."""

    collection: str
    version: int
    next: int
    token: str = ""
    expires: float = 0.0
    aborted: list[int] = field(default_factory=list)
    recall: float | None = None

    def visible(self, *conditions: models.Filter) -> models.Filter:
        """The points that count now, and for which the conditions hold."""
        begun = models.FieldCondition(key="_from", range=models.Range(lte=self.version))
        ended = models.FieldCondition(key="_to", range=models.Range(lte=self.version))
        gone = models.Filter(must=[ended], must_not=[self._aborted("_to")])
        return models.Filter(must=[begun, *conditions], must_not=[self._aborted("_from"), gone])

    def _aborted(self, key: str) -> models.FieldCondition:
        return models.FieldCondition(key=key, match=models.MatchAny(any=self.aborted))


def records(connection: Connection, **values: str) -> list[dict[str, Any]]:
    """The records of which these values are true."""
    where = models.Filter(must=[is_value(key, value) for key, value in values.items()])
    found: list[dict[str, Any]] = []
    offset = None
    with connection.asking() as client:
        while True:
            points, offset = client.scroll(
                RECORDS,
                scroll_filter=where,
                limit=1000,
                offset=offset,
                consistency=models.ReadConsistencyType.MAJORITY,
            )
            found += [point.payload or {} for point in points]
            if offset is None:
                return found


_turns: dict[tuple[str, str], threading.Lock] = {}
"""Writers to one gallery in this process take turns, however often it is open."""


class Record:
    """One gallery's record."""

    def __init__(self, connection: Connection, point: str, name: str) -> None:
        self._connection, self._point, self._name = connection, point, name
        self._turn = _turns.setdefault((connection.address, point), threading.Lock())

    def state(self) -> State:
        """What it says now.

        Raises:
            UnknownGallery: the gallery was dropped.
        """
        with self._connection.asking() as client:
            found = client.retrieve(RECORDS, [self._point], consistency=models.ReadConsistencyType.MAJORITY)
        if not found:
            raise UnknownGallery(f"gallery {self._name!r} is gone; somebody dropped it")
        payload: dict[str, Any] = found[0].payload or {}
        return State(**{name: payload[name] for name in State.__dataclass_fields__ if name in payload})

    @contextmanager
    def writing(self) -> Iterator[tuple[State, Callable[[], None]]]:
        """The state before, whose `next` is the version to write, and what to call now and then in a long work.

        Raises:
            StoreUnavailable: another writer does not end, or this one took too long; nothing has changed.
        """
        with self._turn:
            state = self._taken()
            try:
                yield state, lambda: self._renew(state)
            except BaseException:
                with suppress(GalleryError):  # else the lease runs out
                    self._change(state, {"token": "", "aborted": [*state.aborted, state.next]})
                raise
            self._change(state, {"token": "", "version": state.next})
            after = self.state()
            if after.version < state.next or state.next in after.aborted:
                raise self._too_slow()

    def note(self, **values: object) -> None:
        """Keep something that is no part of a version."""
        self._set(values, [])

    def _taken(self) -> State:
        end = time.monotonic() + PATIENCE
        while True:
            old = self.state()
            # A folder has one process: whoever else has left a token is dead.
            if not old.token or old.expires < time.time() or self._connection.local:
                mine = {"token": uuid4().hex, "expires": time.time() + LEASE, "next": old.next + 1}
                if old.token:
                    mine["aborted"] = [*old.aborted, old.next]
                self._change(old, mine)
                new = self.state()
                if new.token == mine["token"]:
                    return new
            if time.monotonic() > end:
                raise StoreUnavailable(f"gallery {self._name!r}: another writer is at work; try again")
            time.sleep(0.05)

    def _renew(self, state: State) -> None:
        if time.time() > state.expires - LEASE / 2:
            self._change(state, {"expires": time.time() + LEASE})
            if self.state().token != state.token:
                raise self._too_slow()

    def _change(self, state: State, values: dict[str, Any]) -> None:
        """Unless somebody has changed it since: by who has it, and by the version that it gives out."""
        self._set(values, [is_value("token", state.token), is_value("next", state.next)])

    def _set(self, values: dict[str, Any], conditions: list[models.FieldCondition]) -> None:
        where = models.Filter(must=[models.HasIdCondition(has_id=[self._point]), *conditions])
        with self._connection.asking() as client:
            client.set_payload(RECORDS, values, points=where, wait=True, ordering=models.WriteOrdering.STRONG)

    def _too_slow(self) -> StoreUnavailable:
        return StoreUnavailable(f"gallery {self._name!r}: the write took too long and another came first; try again")


def is_value(key: str, value: str | int) -> models.FieldCondition:
    """The payload has that value."""
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))

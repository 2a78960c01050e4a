"""Two servers: reading from the one that follows, and losing the other in the middle of writing."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.gallery.samples import SPEC, some_rows, unit_vectors
from tests.gallery.store.postgres.server import PostgresServer, until
from vssl_gallery.errors import StoreUnavailable, VersionUnknown
from vssl_gallery.store.contract import Version
from vssl_gallery.store.opening import open_place


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary, and a standby without which it acknowledges nothing."""
    with ExitStack() as servers:
        primary = PostgresServer.create("-c fsync=off")
        servers.callback(primary.remove)
        standby = primary.standby()
        servers.callback(standby.remove)
        primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.run("SELECT pg_reload_conf()")
        until(lambda: primary.run("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))
        yield primary, standby


def test_the_standby_is_read_and_takes_over(pair: tuple[PostgresServer, PostgresServer]) -> None:
    primary, standby = pair
    place = open_place(primary.address(standby))
    store = place.create("shoes", SPEC)
    written = store.upsert(some_rows(100))

    # A replica sees a write a moment later, and can be waited for.
    replica = open_place(standby.address())
    follower = replica.open("shoes")
    follower.reach(written.version)
    found = follower.search(unit_vectors(1), 3)
    assert found.version >= written.version
    assert found.rows.num_rows == 3
    with pytest.raises(VersionUnknown):
        follower.reach(Version(written.version + 1), timeout=0.1)
    for write in (lambda: follower.upsert(some_rows(1)), lambda: follower.delete(None), follower.maintain):
        with pytest.raises(StoreUnavailable, match="a replica, which only reads"):
            write()

    # The power of the primary is cut under a writer. What was acknowledged is on the standby; the writer goes on.
    acknowledged: list[int] = []
    ended = threading.Event()

    def writing() -> None:
        first = 1000
        while not ended.is_set():
            store.upsert(some_rows(5, first=first))
            acknowledged.append(first)
            first += 5

    writer = threading.Thread(target=writing)
    writer.start()
    try:
        until(lambda: len(acknowledged) > 20)
        primary.stop()
        standby.promote()
        standby.run("ALTER SYSTEM SET synchronous_standby_names = ''")  # nobody follows it yet
        standby.run("SELECT pg_reload_conf()")
        before = len(acknowledged)
        until(lambda: len(acknowledged) > before + 20, seconds=20)
    finally:
        ended.set()
        writer.join()
    there = {name for part in store.scan() for name in part["id"].to_pylist()}
    wanted = {f"image-{number}" for first in acknowledged for number in range(first, first + 5)}
    assert wanted <= there
    assert len(there) == 100 + 5 * len(acknowledged) == store.info().rows
    assert follower.upsert(some_rows(1)).rows == 1  # it is no replica any more
    for opened in (place, replica):
        opened.close()

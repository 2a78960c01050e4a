"""A PostgreSQL that is slow, full, away or closed to the user."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.gallery.samples import SPEC, some_rows, unit_vectors
from tests.gallery.store.postgres.server import PostgresServer
from vssl.errors import UsageError
from vssl_gallery.errors import StoreFull, StoreUnavailable
from vssl_gallery.store.contract import Store
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.postgres import upkeep


@pytest.fixture
def small(postgres: PostgresServer, name: str) -> Iterator[Store]:
    """A gallery of three rows, behind an address whose statements may take .3 seconds."""
    place = open_place(postgres.address(options="?options=-c%20statement_timeout%3D300"))
    store = place.create(name, SPEC)
    store.upsert(some_rows(3))
    yield store
    place.drop(name)
    place.close()


def table_of(server: PostgresServer, store: Store) -> str:
    found = server.run(f"SELECT number FROM vssl.galleries WHERE name = '{store.name}'")
    return f"vssl.rows_{found[0][0]}"


def test_a_database_that_is_slow(postgres: PostgresServer, small: Store) -> None:
    with psycopg.connect(postgres.address()) as other:
        other.execute(f"LOCK TABLE {table_of(postgres, small)}".encode())
        with pytest.raises(StoreUnavailable, match="took too long"):
            small.search(unit_vectors(1), 1)
        with pytest.raises(StoreUnavailable, match="took too long"):
            small.upsert(some_rows(3))
    assert small.count() == 3


def test_a_disk_that_is_full_changes_nothing(postgres: PostgresServer, small: Store) -> None:
    # PostgreSQL's own error, at the third row of five.
    postgres.run(
        f"""
        CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id = 'image-3' THEN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER no_space BEFORE INSERT ON {table_of(postgres, small)} FOR EACH ROW EXECUTE FUNCTION no_space()
        """
    )
    version = small.info().version
    with pytest.raises(StoreFull, match="disk is full"):
        small.upsert(some_rows(5, first=1))
    postgres.run("DROP FUNCTION no_space CASCADE")
    assert (small.count(), small.info().version) == (3, version)
    assert small.upsert(some_rows(5, first=1)).rows == 5


def test_a_disk_that_is_full_in_maintenance_changes_nothing(
    postgres: PostgresServer, small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's own error, while the index is built: its copy of the rows has nowhere to go."""
    small.upsert(some_rows(300))
    monkeypatch.setattr(upkeep, "INDEX_FROM", 50)
    version = small.info().version
    postgres.run(
        """
        CREATE FUNCTION no_space() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100';
        END $$;
        CREATE EVENT TRIGGER no_space ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION no_space()
        """
    )
    try:
        with pytest.raises(StoreFull, match="disk is full"):
            small.maintain()
    finally:
        postgres.run("DROP EVENT TRIGGER no_space")
        postgres.run("DROP FUNCTION no_space")
    assert (small.count(), small.info().version, small.info().indexed_rows) == (300, version, 0)
    assert small.search(unit_vectors(1), 3).exact
    assert small.maintain().info.indexed_rows == 300


def test_a_connection_that_breaks_is_replaced(postgres: PostgresServer, small: Store) -> None:
    ours = "FROM pg_stat_activity WHERE application_name = 'vssl' AND pid <> pg_backend_pid()"
    assert postgres.run(f"SELECT count(pg_terminate_backend(pid)) {ours}")[0][0]
    assert small.count() == 3
    assert postgres.run(f"SELECT count(pg_terminate_backend(pid)) {ours}")[0][0]
    assert small.upsert(some_rows(4)).rows == 4
    assert small.count() == 4


def test_a_server_that_is_away() -> None:
    with pytest.raises(StoreUnavailable, match="refused") as caught:
        open_place("postgresql://someone:hidden@127.0.0.1:1/none")
    assert "hidden" not in str(caught.value)
    assert "postgresql://someone@127.0.0.1:1/none" in str(caught.value)


@pytest.mark.parametrize("address", ["postgresql://a:hidden@[::1/x", "postgresql://h/d?hidden=1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="not an address") as caught:
        open_place(address)
    assert "hidden" not in str(caught.value)


def test_who_may_not(postgres: PostgresServer) -> None:
    postgres.run("CREATE ROLE reader LOGIN")
    address = postgres.address().replace("vssl@", "reader@")
    place = open_place(address)
    with pytest.raises(UsageError, match="refuses"):
        place.create("mine", SPEC)
    place.close()
    with pytest.raises(StoreUnavailable, match="does not exist"):
        open_place(postgres.address(database="no_such_database"))
    postgres.run("DROP ROLE reader")

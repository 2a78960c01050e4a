"""Every driver passes the same tests: they take the fixture `address`, and open it as a user would.

A driver adds its name to `DRIVERS`, and a fixture `NAME_address` with the address of an empty place, which lives as
long as the session.
"""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.gallery.samples import SPEC
from tests.gallery.store.postgres.server import PostgresServer
from tests.sick_store import sick_store
from vssl_gallery.store.contract import Place, Spec, Store
from vssl_gallery.store.opening import open_place

DRIVERS = ("lance", "postgres", "qdrant")


@pytest.fixture(scope="session")
def lance_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("galleries"))


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with sick_store("galleries"):
        yield "s3://galleries"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that tests share. A power cut may lose what it holds."""
    server = PostgresServer.create("-c fsync=off -c shared_buffers=64MB")
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_address(postgres: PostgresServer) -> str:
    return postgres.address()


@pytest.fixture(scope="session")
def qdrant_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """In memory where there is such a folder: the local mode waits for the disk after each single point."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="vssl-qdrant-", dir=memory if memory.is_dir() else None) as folder:
        yield f"qdrant://{folder}"


@pytest.fixture(scope="session", params=[*DRIVERS, pytest.param("s3", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest) -> str:
    """Of a place that tests share, each with galleries of its own."""
    found: str = request.getfixturevalue(f"{request.param}_address")
    return found


@pytest.fixture
def place(address: str) -> Iterator[Place]:
    opened = open_place(address)
    yield opened
    opened.close()


names = (f"gallery-{number}" for number in count())


@pytest.fixture
def name() -> str:
    """A gallery's name that no other test uses."""
    return next(names)


@pytest.fixture
def create(place: Place, name: str) -> Iterator[Callable[..., Store]]:
    """Creates the gallery `name`; drops it in the end."""
    opened: list[Store] = []

    def creating(spec: Spec = SPEC) -> Store:
        opened.append(place.create(name, spec))
        return opened[-1]

    yield creating
    for store in opened:
        store.close()
        place.drop(name)

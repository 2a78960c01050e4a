"""Connections to one database: a pool, transactions, what is tried again, and for how long."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import Any, LiteralString, TypeVar

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types import TypeInfo
from psycopg_pool import ConnectionPool, PoolTimeout

from vssl.errors import UsageError
from vssl_gallery.store.postgres.failures import READ_ONLY, named, passes

T = TypeVar("T")
Cursor = psycopg.Cursor[Any]
Connection = psycopg.Connection[Any]
Statement = LiteralString | bytes | sql.SQL | sql.Composed

PATIENCE = 15.0
"""Seconds in which a failover may happen under a request without its caller noticing."""

CONNECTIONS = 16
"""At most; requests beyond wait their turn."""

_DEFAULTS = {
    "connect_timeout": 3,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "vssl",
}
"""A host that vanishes without a word is noticed within 20 seconds, where the address does not say otherwise."""

_SETTINGS = (
    "-c statement_timeout=60s -c jit=off -c timezone=UTC "
    "-c hnsw.iterative_scan=relaxed_order -c hnsw.max_scan_tuples=40000 -c hnsw.scan_mem_multiplier=4"
)
"""`jit` takes longer to compile a search than the search takes. The index goes on until a filter has enough rows, or it
has looked at 40,000 for one query; `nearest` says what then."""

_NEVER = 2**31
"""Uses after which psycopg prepares a statement by itself. They are planned with their values, because a plan for any
value may be a bad one for these, unless `Database.ask` is told otherwise.
"""

# psycopg's pool reports failed connections to its log. Who keeps a log reads them; without one Python would print them.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class Database:
    """One database by its address, `postgresql://USER@HOST:PORT,HOST:PORT/NAME`. For many threads at once."""

    def __init__(self, address: str) -> None:
        try:
            given = conninfo_to_dict(address)
        except psycopg.Error:  # its message may hold the password
            raise UsageError("postgresql://: not an address that PostgreSQL understands") from None
        self.address = _without_password(given)
        several = "," in str(given.get("host") or given.get("hostaddr") or "")
        # Of several servers the one that takes writes, whichever it is today.
        found: dict[str, Any] = {**({"target_session_attrs": "read-write"} if several else {}), **_DEFAULTS, **given}
        found["options"] = f"{_SETTINGS} {given.get('options') or ''}".strip()
        self._info = make_conninfo(**found)
        self._pool: ConnectionPool[Connection] | None = None
        self._opening = Lock()

    def ask(
        self, statement: Statement, bound: Mapping[str, object] | None = None, prepared: bool = False
    ) -> list[tuple[Any, ...]]:
        """What one statement that reads finds. It sees one state of the database by itself; a transaction about it
        would be two more trips to the server.

        Args:
            statement: to execute.
            bound: its values.
            prepared: each connection shall parse and plan it once; for what is asked often, with one good plan for all
                values.
        """
        return self._trying(lambda: self._asked(statement, bound, prepared))

    def read(self, work: Callable[[Cursor], T]) -> T:
        """What several statements find in one state of the database."""
        return self._trying(lambda: self._within(work, psycopg.IsolationLevel.REPEATABLE_READ, read_only=True))

    def write(self, work: Callable[[Cursor], T], again: bool = True) -> T:
        """Do `work` whole or not at all; where the connection breaks, once more from its beginning.

        Args:
            work: with the same result if it is done twice, because a broken connection does not say whether it was.
            again: False for work of another kind.
        """
        return self._trying(lambda: self._within(work, psycopg.IsolationLevel.READ_COMMITTED, read_only=None), again)

    @contextmanager
    def held(self) -> Iterator[Connection]:
        """A connection that reads one state of the database until the end of the block."""
        with self._named(), self._opened().connection(PATIENCE) as connection:
            _prepare(connection)
            connection.isolation_level, connection.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
            with connection.transaction():
                yield connection

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """A connection of its own outside any transaction, and without a limit of time: for maintenance."""
        with self._named(), psycopg.connect(self._info, autocommit=True, prepare_threshold=None) as connection:
            _prepare(connection)
            connection.execute("SET statement_timeout = 0")
            yield connection

    def check(self) -> None:
        """Return if the database answers now."""
        with self._named(), psycopg.connect(self._info) as connection:  # it says why, and the pool only that it waited
            connection.execute("SELECT 1")

    def close(self) -> None:
        """Let go of all connections."""
        with self._opening:
            if self._pool is not None:
                self._pool.close()
            self._pool = None

    def _opened(self) -> ConnectionPool[Connection]:
        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._info,
                    kwargs={"prepare_threshold": _NEVER, "autocommit": True},
                    min_size=1,
                    max_size=CONNECTIONS,
                    name="vssl",
                    open=True,
                )
            return self._pool

    def _asked(self, statement: Statement, bound: Mapping[str, object] | None, prepared: bool) -> list[tuple[Any, ...]]:
        with self._opened().connection(PATIENCE) as connection:
            _prepare(connection)
            with connection.cursor(binary=True) as cursor:
                return cursor.execute(statement, bound, prepare=prepared).fetchall()

    def _within(self, work: Callable[[Cursor], T], isolation: psycopg.IsolationLevel, read_only: bool | None) -> T:
        with self._opened().connection(PATIENCE) as connection:
            _prepare(connection)
            connection.isolation_level, connection.read_only = isolation, read_only
            with connection.transaction(), connection.cursor(binary=True) as cursor:
                return work(cursor)

    def _trying(self, attempt: Callable[[], T], again: bool = True) -> T:
        end = time.monotonic() + PATIENCE
        for number in count():
            try:
                return attempt()
            except (psycopg.Error, PoolTimeout) as error:
                wait = min(0.05 * 2**number, 1.0) * random.uniform(0.5, 1.0)
                moved = self._several and getattr(error, "sqlstate", None) == READ_ONLY
                if not again or not (moved or passes(error)) or time.monotonic() + wait > end:
                    raise named(self._cause(error), self.address) from error
                time.sleep(wait)
                self._opened().check()  # drop what broke with it
        raise AssertionError

    @property
    def _several(self) -> bool:
        return "read-write" in self._info or "primary" in self._info

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, PoolTimeout) as error:
            raise named(self._cause(error), self.address) from error

    def _cause(self, error: Exception) -> Exception:
        """Why the pool has no connection: it says only how long it waited."""
        if isinstance(error, PoolTimeout):
            try:
                psycopg.connect(self._info).close()
            except psycopg.Error as cause:
                return cause
        return error


def _prepare(connection: Connection) -> None:
    """See that a connection knows the type of vectors, which may be younger than itself, or not there yet."""
    if connection.adapters.types.get("vector") is None and TypeInfo.fetch(connection, "vector") is not None:
        register_vector(connection)


def _without_password(given: dict[str, Any]) -> str:
    hosts, ports = str(given.get("host") or given.get("hostaddr") or "").split(","), str(given.get("port") or "")
    several = ports.split(",") if "," in ports else [ports] * len(hosts)
    at = ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, several, strict=False))
    user = f"{given['user']}@" if given.get("user") else ""
    return f"postgresql://{user}{at}/{given.get('dbname') or ''}"

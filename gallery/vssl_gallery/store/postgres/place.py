"""All galleries of one database."""

from typing import Any

import psycopg
from psycopg import sql

from vssl.errors import UsageError
from vssl_gallery.errors import GalleryExists, UnknownGallery
from vssl_gallery.store import saved_spec
from vssl_gallery.store.columns import check_fields, check_gallery_name
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.postgres.database import Database
from vssl_gallery.store.postgres.store import PostgresStore
from vssl_gallery.store.postgres.tables import CATALOGUE, LOCKS, creation, rows_table

PGVECTOR = (0, 8)
"""The first version whose index goes on until a filter has enough rows."""

Cursor = psycopg.Cursor[Any]


def open_place(address: str) -> "PostgresPlace":
    """The galleries at `postgresql://…`.

    Raises:
        UsageError: not an address of PostgreSQL, or the database refuses us.
        StoreUnavailable: nothing answers there.
    """
    place = PostgresPlace(Database(address))
    try:
        place.check()
    except BaseException:
        place.close()
        raise
    return place


class PostgresPlace:
    """See `vssl_gallery.store.contract.Place`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.address = database.address

    def check(self) -> None:
        """Return if the database answers now."""
        self._database.check()

    def galleries(self) -> list[str]:
        """Their names, in order."""
        return [name for (name,) in self._listed("SELECT name FROM vssl.galleries ORDER BY name")]

    def create(self, name: str, spec: Spec) -> PostgresStore:
        """A new, empty gallery."""
        check_gallery_name(name)
        check_fields(spec.fields)
        self._ready()

        def work(cursor: Cursor) -> int:
            _alone(cursor)
            if _taken(cursor, name):
                raise GalleryExists(f"{name!r} exists already at {self.address}")
            bound = {"name": name, "spec": saved_spec.to_text(spec)}
            (number,) = cursor.execute(_INSERT, bound).fetchone() or (0,)
            for statement in creation(number, spec):
                cursor.execute(statement)
            return int(number)

        return PostgresStore(self._database, name, self._database.write(work, again=False), spec)

    def open(self, name: str) -> PostgresStore:
        """The gallery of that name, or of that alias."""
        found = self._listed(_OPEN, {"name": check_gallery_name(name)})
        if not found:
            raise UnknownGallery(f"no gallery {name!r} at {self.address}")
        own, number, kept = found[0]
        return PostgresStore(self._database, own, number, saved_spec.from_text(kept, f"{self.address}: {own}"))

    def drop(self, name: str) -> None:
        """Remove a gallery with all that it holds."""
        if check_gallery_name(name) not in self.galleries():
            raise UnknownGallery(f"no gallery {name!r} at {self.address}")

        def work(cursor: Cursor) -> None:
            _alone(cursor)
            found = cursor.execute("DELETE FROM vssl.galleries WHERE name = %s RETURNING number", (name,)).fetchone()
            if found:
                cursor.execute(_DROP.format(rows_table(found[0])))

        self._database.write(work)

    def aliases(self) -> dict[str, str]:
        """The gallery that each alias means."""
        return dict(self._listed("SELECT alias, name FROM vssl.aliases ORDER BY alias"))

    def set_alias(self, alias: str, name: str | None) -> None:
        """Let an alias mean that gallery from now on; None removes it."""
        check_gallery_name(alias)
        if name is None:
            if self.aliases().get(alias):
                self._database.write(lambda cursor: cursor.execute(_FORGET_ALIAS, {"alias": alias}))
            return
        if name not in self.galleries():
            raise UnknownGallery(f"no gallery {name!r} at {self.address}")

        def work(cursor: Cursor) -> None:
            _alone(cursor)
            if cursor.execute("SELECT 1 FROM vssl.galleries WHERE name = %s", (alias,)).fetchone():
                raise GalleryExists(f"{alias!r} is a gallery at {self.address}; name the alias otherwise")
            cursor.execute(_SET_ALIAS, {"alias": alias, "name": name})

        self._database.write(work)

    def close(self) -> None:
        """Let go of all connections."""
        self._database.close()

    def _listed(self, statement: str, values: dict[str, object] | None = None) -> list[Any]:
        """Rows of the catalogue; none where there is no catalogue yet."""

        def work(cursor: Cursor) -> list[Any]:
            return cursor.execute(statement, values).fetchall() if _catalogued(cursor) else []

        return self._database.read(work)

    def _ready(self) -> None:
        """Make the catalogue, unless it is there."""
        if self._database.read(_catalogued):
            return

        def work(cursor: Cursor) -> str:
            _alone(cursor)
            for statement in CATALOGUE:
                cursor.execute(statement)
            found = cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
            return str(found[0]) if found else ""

        version = self._database.write(work)
        if tuple(int(part) for part in version.split(".")[:2]) < PGVECTOR:
            raise UsageError(f"{self.address}: pgvector {version}; galleries need 0.8: ALTER EXTENSION vector UPDATE")


def _catalogued(cursor: Cursor) -> bool:
    return cursor.execute("SELECT to_regclass('vssl.records') IS NOT NULL").fetchone() == (True,)


def _alone(cursor: Cursor) -> None:
    """One change of the catalogue at a time."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCKS,))


def _taken(cursor: Cursor, name: str) -> bool:
    return cursor.execute(_TAKEN, {"name": name}).fetchone() is not None


_TAKEN = """
SELECT name FROM vssl.galleries WHERE name = %(name)s UNION ALL SELECT alias FROM vssl.aliases WHERE alias = %(name)s
"""
_INSERT = "INSERT INTO vssl.galleries (name, spec) VALUES (%(name)s, %(spec)s) RETURNING number"
_OPEN = """
SELECT name, number, spec FROM vssl.galleries
WHERE name = coalesce((SELECT name FROM vssl.aliases WHERE alias = %(name)s), %(name)s)
"""
_DROP = sql.SQL("DROP TABLE {}")
_SET_ALIAS = """
INSERT INTO vssl.aliases (alias, name) VALUES (%(alias)s, %(name)s)
ON CONFLICT (alias) DO UPDATE SET name = EXCLUDED.name
"""
_FORGET_ALIAS = "DELETE FROM vssl.aliases WHERE alias = %(alias)s"

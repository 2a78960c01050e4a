"""A folder, or a folder of a bucket, that holds galleries as LanceDB's tables."""

import os
import re
import secrets
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from vssl.memory import cores

# Read on import. Without the first, every search writes a warning. A build of an index holds one thread all the time;
# by default a machine of three cores has no other, and all galleries wait.
os.environ.setdefault("LANCE_LOG", "error")
os.environ.setdefault("LANCE_CPU_THREADS", str(max(4, cores() - 2)))

import lancedb

from vssl_gallery.errors import GalleryExists, NotAGallery, UnknownGallery
from vssl_gallery.store import saved_spec
from vssl_gallery.store.columns import check_fields, check_gallery_name
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.lance.failures import translated
from vssl_gallery.store.lance.records import KEY, TABLE, Records
from vssl_gallery.store.lance.store import INDEX_ROWS, MADE_KEY, SPEC_KEY, LanceStore
from vssl_gallery.store.rows import schema

S3_OPTIONS = {"client_max_retries": "3", "client_retry_timeout": "10", "connect_timeout": "5s", "timeout": "60s"}
"""A bucket that is away is named as such within seconds. Keys and endpoint come from the AWS_… variables."""


class LancePlace:
    """See `contract.Place`. A folder that is not there yet is an empty place, and is made with its first gallery.

    Args:
        address: of the folder, or `s3://BUCKET/FOLDER`.
        index_rows: a gallery gets an index when it has that many rows.
    """

    def __init__(self, address: str, index_rows: int = INDEX_ROWS) -> None:
        self._remote = address.startswith("s3://")
        self.address = address if self._remote else str(Path(address).expanduser().absolute())
        self._index_rows = index_rows
        self._lock = threading.Lock()
        self._opened: tuple[Any, Records] | None = None
        self._there()

    def check(self) -> None:
        """See `contract.Place`."""
        self._tables()

    def galleries(self) -> list[str]:
        """See `contract.Place`."""
        return sorted(set(self._tables()) - {TABLE})

    def create(self, name: str, spec: Spec) -> LanceStore:
        """See `contract.Place`."""
        check_gallery_name(name)
        check_fields(spec.fields)
        with translated(self.address):
            connection, records = self._connected()
            records.create()
            if records.read(_alias(name)) is not None:
                raise GalleryExists(f"{name}: is an alias; take another name, or remove the alias")
            try:
                table = connection.create_table(name, schema=_stored_schema(spec))
            except ValueError as error:
                if "already exists" not in str(error):
                    raise
                raise GalleryExists(f"{name}: is there already; take another name, or drop it") from error
            return LanceStore(connection, table, spec, records, self._index_rows)

    def open(self, name: str) -> LanceStore:
        """See `contract.Place`."""
        check_gallery_name(name)
        if not self._there():
            raise self._unknown(name)
        with translated(self.address):
            connection, records = self._connected()
            gallery = records.read(_alias(name)) or name
            try:
                table = connection.open_table(gallery)
            except ValueError as error:
                if "was not found" not in str(error):
                    raise
                raise self._unknown(gallery) from error
            kept = (table.schema.metadata or {}).get(SPEC_KEY.encode())
            spec = saved_spec.from_text(kept and kept.decode(), f"{self.address}: {gallery}")
            return LanceStore(connection, table, spec, records, self._index_rows)

    def drop(self, name: str) -> None:
        """See `contract.Place`."""
        if check_gallery_name(name) not in self.galleries():
            raise self._unknown(name)
        with translated(self.address):
            connection, records = self._connected()
            for key, target in records.under("alias/").items():
                if target == name:
                    records.write(key, None)
            for key in records.under(f"gallery/{name}/"):
                records.write(key, None)
            connection.drop_table(name)

    def aliases(self) -> dict[str, str]:
        """See `contract.Place`."""
        if not self._there():
            return {}
        with translated(self.address):
            _, records = self._connected()
            return {key.removeprefix("alias/"): name for key, name in sorted(records.under("alias/").items())}

    def set_alias(self, alias: str, name: str | None) -> None:
        """See `contract.Place`."""
        check_gallery_name(alias)
        galleries = self.galleries()
        if alias in galleries:
            raise GalleryExists(f"{alias}: is a gallery; take another name for the alias")
        if name is not None and name not in galleries:
            raise self._unknown(name)
        if name is not None or self._there():
            with translated(self.address):
                self._connected()[1].write(_alias(alias), name)

    def close(self) -> None:
        """See `contract.Place`."""
        self._opened = None

    def _there(self) -> bool:
        """Whether there is a place already.

        Raises:
            NotAGallery: there is something else.
        """
        if self._remote:
            tables = self._tables_of(self._connected()[0])
            if tables and TABLE not in tables:
                raise NotAGallery(f"{self.address}: holds other tables; name an empty folder of the bucket")
            return bool(tables)
        folder = Path(self.address)
        with translated(self.address):
            if folder.exists() and not folder.is_dir():
                raise NotAGallery(f"{self.address}: is a file; galleries lie in a folder")
            held = [entry.name for entry in folder.iterdir() if entry.name[0] != "."] if folder.exists() else []
        if held and f"{TABLE}.lance" not in held:
            raise NotAGallery(f"{self.address}: holds {min(held)!r} and no galleries; name an empty or a new folder")
        return bool(held)

    def _tables(self) -> list[str]:
        return self._tables_of(self._connected()[0]) if self._there() else []

    def _tables_of(self, connection: Any) -> list[str]:  # noqa: ANN401 — LanceDB has no types
        with translated(self.address):
            found: list[str] = []
            page = None
            while True:
                answer = connection.list_tables(page_token=page, limit=1000)
                found += answer.tables
                page = answer.page_token
                if not page:
                    return found

    def _connected(self) -> tuple[Any, Records]:
        with self._lock, translated(self.address):
            if self._opened is None:
                connection = lancedb.connect(
                    self.address,
                    # Of writes by other processes; a folder's newest version costs .3 ms to look up, a bucket's much
                    # more.
                    read_consistency_interval=timedelta(seconds=1 if self._remote else 0),
                    storage_options=_s3_options() if self._remote else None,
                )
                self._opened = connection, Records(connection)
            return self._opened

    def _unknown(self, name: str) -> UnknownGallery:
        found = ", ".join(self.galleries()[:20])
        return UnknownGallery(f"{self.address}: no gallery {name!r}; there {'are ' + found if found else 'is none'}")


def open_place(address: str) -> LancePlace:
    """See `opening.open_place`."""
    return LancePlace(address)


def _alias(name: str) -> str:
    return f"alias/{name}"


def _s3_options() -> dict[str, str]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint is None:
        return S3_OPTIONS
    return {**S3_OPTIONS, "endpoint": endpoint, "allow_http": str(bool(re.match("http://", endpoint))).lower()}


def _stored_schema(spec: Spec) -> Any:  # noqa: ANN401 — a pyarrow schema
    """The rows' schema, with the specification among its metadata, and `id` as the key: in place from the beginning."""
    columns = schema(spec).with_metadata({SPEC_KEY: saved_spec.to_text(spec), MADE_KEY: secrets.token_hex(8)})
    at = columns.get_field_index("id")
    return columns.set(at, columns.field(at).with_metadata(KEY))

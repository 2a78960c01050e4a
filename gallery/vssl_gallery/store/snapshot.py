"""Snapshots: a gallery as Parquet files that read as `vssl embed`'s own, and a manifest with the hash of each.

`_manifest.json` is written last, so a folder without one is not a whole snapshot. A snapshot of one driver can be
restored through any other.
"""

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from vssl.files import atomic_write
from vssl_gallery.errors import GalleryError, GalleryExists, SnapshotDamaged, StoreFull
from vssl_gallery.store import saved_spec
from vssl_gallery.store.contract import Place, Progress, Spec, Store, no_progress
from vssl_gallery.store.part_rows import as_part, part_schema, rows_of_part
from vssl_gallery.store.rows import schema

MANIFEST = "_manifest.json"
PART_ROWS = 50_000
BATCH_ROWS = 4096
"""Rows that a restored gallery gets in one write."""

RESTORING = "_restoring"
"""The record of a gallery that is being restored: the snapshot's hash."""


class FileRecord(BaseModel):
    """One part of a snapshot."""

    sha256: str
    size: int
    rows: int


class Manifest(BaseModel):
    """What a snapshot holds.

    Attributes:
        gallery: its name.
        spec: what the gallery is bound to, as `saved_spec` writes it.
        version: of the gallery when the snapshot began.
        created_at: when it began, in UTC.
        rows: how many.
        files: each part, by its name.
        records: the texts that the gallery kept.
        sha256: of all the rest of this.
    """

    gallery: str
    spec: dict[str, Any]
    version: int
    created_at: datetime
    rows: int
    files: dict[str, FileRecord]
    records: dict[str, str]
    sha256: str = ""

    def hashed(self) -> str:
        """The hash of all but `sha256`."""
        content = self.model_dump(mode="json", exclude={"sha256"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_snapshot(store: Store, folder: Path, progress: Progress = no_progress) -> Manifest:
    """Write a gallery as it is now into a new or an empty folder. Others may write to the gallery meanwhile. Stopped by
    `progress`, it leaves a folder without a manifest.

    Raises:
        GalleryExists: the folder is not empty.
        StoreFull: its disk is full.
        GalleryError: it can't be written to.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise GalleryExists(f"{folder}: is not empty; name a new folder for the snapshot")
        begun = {"version": store.version(), "created_at": datetime.now(UTC)}
        records = {key: text for key, text in store.records().items() if not key.startswith("_")}
        files = dict(_parts(store, folder, progress))
        manifest = Manifest(
            gallery=store.name,
            spec=json.loads(saved_spec.to_text(store.spec)),
            rows=sum(file.rows for file in files.values()),
            files=files,
            records=records,
            **begun,
        )
        manifest.sha256 = manifest.hashed()
        with atomic_write(folder / MANIFEST) as file:
            file.write(manifest.model_dump_json(indent=2).encode())
        return manifest


def verified(folder: Path) -> Manifest:
    """The manifest of a snapshot, if every byte is as it was written.

    Raises:
        SnapshotDamaged: it is not.
        NotAGallery: a newer version wrote it.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise SnapshotDamaged(f"{folder}: has no {MANIFEST}, so it is no snapshot, or one that never ended") from None
    except (OSError, ValidationError, ValueError) as error:
        raise SnapshotDamaged(f"{folder / MANIFEST}: can't be read: {str(error).splitlines()[0]}") from error
    if manifest.hashed() != manifest.sha256:
        raise SnapshotDamaged(f"{folder / MANIFEST}: has changed since it was written; take another copy")
    for name, record in manifest.files.items():
        _verify(folder / name, record)
    _spec_of(manifest, folder)
    return manifest


def restore(place: Place, name: str, folder: Path, progress: Progress = no_progress) -> Store:
    """A new gallery with what a snapshot holds. Killed or stopped in the middle, it goes on when it is called again.

    Raises:
        SnapshotDamaged: the snapshot is not whole, or a byte has changed. No gallery is created then.
        GalleryExists: there is a gallery of that name, which this snapshot did not begin.
    """
    manifest = verified(folder)
    store, put = _begun(place, name, manifest, folder), 0
    for part in sorted(manifest.files):
        with pq.ParquetFile(folder / part) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                progress(put / manifest.rows)
                store.upsert(rows_of_part(pa.Table.from_batches([batch]), store.spec))
                put += batch.num_rows
    for key, text in manifest.records.items():
        store.write_record(key, text)
    store.write_record(RESTORING, None)
    return store


def _begun(place: Place, name: str, manifest: Manifest, folder: Path) -> Store:
    """The gallery to restore into."""
    if name not in place.galleries():
        store = place.create(name, _spec_of(manifest, folder))
    else:
        store = place.open(name)
        begun = store.read_record(RESTORING) == manifest.sha256
        if not begun and (store.count() or store.spec != _spec_of(manifest, folder)):
            raise GalleryExists(f"{name}: is there already; restore under another name, or drop it")
    store.write_record(RESTORING, manifest.sha256)
    return store


def _parts(store: Store, folder: Path, progress: Progress) -> Iterator[tuple[str, FileRecord]]:
    """Write parts until the scan ends, at least one."""
    rows, total, written = store.scan(None, schema(store.spec).names), max(store.count(), 1), 0
    number, batch = 0, next(rows, None)
    while batch is not None or number == 0:
        part = folder / f"part-{number:06}.parquet"
        count, columns = 0, part_schema(store.spec)
        with (
            atomic_write(part) as sink,
            pq.ParquetWriter(sink, columns, compression="zstd", use_dictionary=["label"]) as writer,
        ):
            while batch is not None and count < PART_ROWS:
                progress(written / total)
                writer.write_table(as_part(pa.Table.from_batches([batch]), store.spec))
                count, written = count + batch.num_rows, written + batch.num_rows
                batch = next(rows, None)
        yield part.name, _record(part, count)
        number += 1


def _record(part: Path, rows: int) -> FileRecord:
    with part.open("rb") as file:
        return FileRecord(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=part.stat().st_size, rows=rows)


def _verify(part: Path, record: FileRecord) -> None:
    try:
        found = _record(part, record.rows)
    except OSError as error:
        raise SnapshotDamaged(f"{part}: can't be read: {error.strerror}") from error
    if found != record:
        raise SnapshotDamaged(f"{part}: has changed since it was written; take another copy")


def _spec_of(manifest: Manifest, folder: Path) -> Spec:
    return saved_spec.from_text(json.dumps(manifest.spec), str(folder))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"{folder}: the disk is full; free some space, or name a folder on another one") from error
        raise GalleryError(f"{folder}: {error.strerror or error}") from error

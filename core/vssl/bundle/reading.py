"""The bundle: the one contract between export and everything that uses a model.

A directory, or a `.zip` of it, that holds `manifest.json`, the files it lists, and no others (names that start with a
dot are the system's and passed over). Reading verifies every hash; the manifest's own `id` covers the manifest, so
nothing it says can change unnoticed. Nothing in a bundle is executable.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from vssl.bundle.manifest import MANIFEST, SCHEMA_VERSION, Manifest
from vssl.errors import BundleError, UsageError
from vssl.files import atomic_write, write_directory

__all__ = ["MANIFEST", "Bundle", "Manifest", "manifest_id", "open_bundle", "replaceable", "write_bundle"]

MAX_MANIFEST_BYTES = 16 * 2**20

MAX_BUNDLE_BYTES = 16 * 2**30
"""All files of a bundle together, unpacked."""

MAX_RATIO, SMALL_BYTES = 20, 2**20
"""A member of an archive, once over some size, unpacks to at most so many times its own: weights hardly shrink."""

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and verified. `location` is its directory or `.zip`."""

    manifest: Manifest
    location: Path

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, checked against the manifest once more as they are read.

        Raises:
            BundleError: the file is missing or has changed.
        """
        record = self.manifest.files[name]
        data = _read(self.location, name, record.bytes)
        if len(data) != record.bytes or hashlib.sha256(data).hexdigest() != record.sha256:
            raise self._changed(name)
        return data

    def verify(self, name: str) -> None:
        """Check one listed file against the manifest, a chunk at a time.

        Raises:
            BundleError: the file is missing or has changed.
        """
        record = self.manifest.files[name]
        digest, length = hashlib.sha256(), 0
        with _opened(self.location, name) as file:
            while length <= record.bytes and (chunk := file.read(CHUNK_BYTES)):
                digest.update(chunk)
                length += len(chunk)
        if length != record.bytes or digest.hexdigest() != record.sha256:
            raise self._changed(name)

    def _changed(self, name: str) -> BundleError:
        return BundleError(
            f"{self.location}: {name} does not match its hash in {MANIFEST}; copy or export the bundle again"
        )


def open_bundle(location: str | os.PathLike[str]) -> Bundle:
    """Read and verify a bundle.

    Raises:
        UsageError: there is no bundle at `location`.
        BundleError: a file is missing, has changed or is not listed, or this version does not read the schema.
    """
    location = Path(location)
    if not location.exists():
        raise UsageError(f"{location}: no such bundle; `vssl export RUN --out {location}` makes one")
    if not (location.is_dir() or location.is_file()):  # to open a pipe would wait for its other end
        raise UsageError(f"{location}: neither a folder nor a file, so it is no bundle")
    bundle = Bundle(_parse(location, _read(location, MANIFEST, MAX_MANIFEST_BYTES)), location)
    for name in _unlisted(location, bundle.manifest.files):
        if not any(part.startswith(".") and part != ".." for part in name.split("/")):
            raise BundleError(
                f"{location}: {name} is there twice, or not listed in {MANIFEST}; export the bundle again"
            )
    total = sum(record.bytes for record in bundle.manifest.files.values())
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(f"{location}: its files are {total:,} bytes, over the limit of {MAX_BUNDLE_BYTES:,}")
    for name in bundle.manifest.files:
        bundle.verify(name)
    return bundle


def write_bundle(location: Path, fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle whole or not at all, as a `.zip` if `location` ends so, else as a directory.

    `fields` are the manifest's fields but `id` and `files`; `files` maps paths inside the bundle to their bytes.
    A bundle that is already there is replaced; anything else that is there is refused.

    Raises:
        UsageError: `location` exists and is not a bundle.
        BundleError: a field of the manifest is not valid, a figure that is not a number for instance.
    """
    replaceable(location)
    records = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    try:
        draft = Manifest.model_validate({**fields, "files": records, "id": "0" * 64})
        manifest = draft.model_copy(update={"id": manifest_id(draft.model_dump(mode="json"))})
        text = manifest.model_dump_json(indent=2) + "\n"
    except ValueError as error:
        raise BundleError(f"{location} can't be written: {MANIFEST}, {_first(error)}") from error
    contents = {MANIFEST: text.encode(), **files}
    location.parent.mkdir(parents=True, exist_ok=True)
    if location.suffix == ".zip":
        with atomic_write(location) as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in contents.items():
                member = zipfile.ZipInfo(name)
                member.external_attr = 0o644 << 16  # else only its owner can read it once it is unpacked
                archive.writestr(member, data)
    else:
        write_directory(location, contents)
    return manifest


def replaceable(location: Path) -> None:
    """Refuse to write where something other than a bundle stands, or more than a bundle (an empty folder is fine).

    Raises:
        UsageError: `location` may not be written to.
    """
    if not location.exists() or (location.is_dir() and not any(location.iterdir())):
        return
    if location.is_dir() == (location.suffix == ".zip"):
        raise UsageError(f"{location}: exists; a bundle is a file where its name ends in .zip, else a folder")
    try:
        fields = json.loads(_read(location, MANIFEST, MAX_MANIFEST_BYTES))
        extra = next(_unlisted(location, fields["files"]), None)
    except (BundleError, ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(f"{location}: exists and is not a bundle; name another place") from None
    if extra is not None:
        raise UsageError(f"{location}: holds {extra}, which is not the bundle's and would be lost; name another place")


def manifest_id(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's JSON with sorted keys and without `id`."""
    rest = {key: value for key, value in fields.items() if key != "id"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(location: Path, data: bytes) -> Manifest:
    try:
        fields = json.loads(data)
        found = fields.get("schema_version") if isinstance(fields, dict) else None
        if found != SCHEMA_VERSION:
            raise BundleError(
                f"{location}: {MANIFEST} has schema version {found!r}, this vssl reads {SCHEMA_VERSION}: "
                "upgrade vssl, or export the bundle again with this version"
            )
        if fields.get("id") != manifest_id(fields):
            raise BundleError(f"{location}: {MANIFEST} does not match its id, it was changed; export the bundle again")
        return Manifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise BundleError(f"{location}: {MANIFEST}, {_first(error)}; export the bundle again") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{location}: {MANIFEST} is not valid JSON ({error}); export the bundle again") from error


def _first(error: ValueError) -> str:
    """What is wrong with a manifest, in one line: its first field that is."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"field {field}: {first['msg']}" if field else first["msg"]


def _read(location: Path, name: str, most: int) -> bytes:
    """At most `most` + 1 bytes of one file of the bundle: one byte too many is enough to see that it is too long."""
    with _opened(location, name) as file:
        return file.read(most + 1)


@contextmanager
def _opened(location: Path, name: str) -> Iterator[IO[bytes]]:
    """One file of the bundle, open for reading.

    Raises:
        BundleError: it is missing, leads out of the bundle, or is packed as no file of a bundle is.
    """
    if location.is_dir():
        path = location / name
        if not path.is_file():
            raise BundleError(f"{location}: {name} is missing; it is no bundle, or not a whole one")
        if not path.resolve().is_relative_to(location.resolve()):
            raise BundleError(f"{location}: {name} is a link that leads out of the bundle")
        with path.open("rb") as file:
            yield file
        return
    with _archive(location, name) as archive:
        if name not in archive.namelist():
            raise BundleError(f"{location}: {name} is missing at the top of the archive; it is no bundle")
        about = archive.getinfo(name)
        if about.file_size > max(SMALL_BYTES, MAX_RATIO * about.compress_size):
            raise BundleError(
                f"{location}: {name} unpacks to more than {MAX_RATIO} times its size, as no file of a bundle does; "
                "export the bundle again"
            )
        with archive.open(about) as member:
            yield member


def _unlisted(location: Path, listed: Mapping[str, Any]) -> Iterator[str]:
    """Names of the files that are neither listed nor the manifest, and of those that an archive holds twice."""
    known = {MANIFEST, *listed}
    if location.is_dir():
        found = (path.relative_to(location).as_posix() for path in location.rglob("*") if not path.is_dir())
        yield from (name for name in found if name not in known)
    else:
        with _archive(location, "its directory") as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
        for name in names:
            if name not in known:
                yield name
            known.discard(name)


@contextmanager
def _archive(location: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """The open archive, whose errors name what was being read."""
    try:
        with zipfile.ZipFile(location) as archive:
            yield archive
    except BundleError:
        raise
    except Exception as error:
        # zipfile raises whatever the broken bytes lead to: BadZipFile, zlib.error, UnicodeDecodeError, …
        raise BundleError(f"{location}: {name} can't be read from the zip archive ({error})") from error

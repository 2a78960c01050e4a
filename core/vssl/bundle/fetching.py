"""A bundle in an object store or on a web server, copied to the user's cache once.

The copy is named by the bundle's id, which covers every byte. Whoever reads it verifies it, as any other bundle.
"""

import hashlib
import shutil
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

from vssl.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from vssl.bundle.parsing import check_size, parse_manifest
from vssl.caches import cache_folder
from vssl.errors import BundleError, UsageError
from vssl.files import atomic_write
from vssl.objects.path import ObjectPath
from vssl.objects.range_file import RangeFile

PIECE = 2**23
"""Bytes of one request."""


def fetched(address: str) -> Path:
    """The copy of a bundle: a folder or a `.zip`, as it is at the address.

    Raises:
        UsageError: there is no bundle, or obstore is not installed.
        BundleError: its manifest can't be trusted, or a file does not match it.
        OSError: the store does not answer, or there is no cache.
    """
    place = ObjectPath(address)
    zipped = address.lower().endswith(".zip")
    try:
        manifest = parse_manifest(place, _zipped_manifest(place) if zipped else _manifest(place))
    except FileNotFoundError as error:
        raise UsageError(f"{address}: no bundle there ({error.strerror})") from None
    check_size(place, manifest)
    copy = cache_folder("bundles") / f"{manifest.id}{'.zip' if zipped else ''}"
    if zipped and not copy.exists():
        _fetch_zip(place, copy)
    if not zipped and not _is_whole(copy, manifest):
        _fetch_folder(place, manifest, copy)
    return copy


def _manifest(place: ObjectPath) -> bytes:
    return (place / MANIFEST).read(MAX_MANIFEST_BYTES + 1)


def _zipped_manifest(place: ObjectPath) -> bytes:
    try:
        with RangeFile.opened(place) as file, zipfile.ZipFile(file) as archive, archive.open(MANIFEST) as member:
            return member.read(MAX_MANIFEST_BYTES + 1)
    except OSError:
        raise
    except Exception as error:  # zipfile raises whatever the broken bytes lead to
        raise BundleError(f"{place}: {MANIFEST} can't be read from the zip archive ({error})") from error


def _fetch_zip(place: ObjectPath, copy: Path) -> None:
    now = place.seen()
    size = now.stat().size
    with atomic_write(copy) as file:
        for begin in range(0, size, PIECE):
            file.write(now.read_at(begin, min(PIECE, size - begin)))


def _is_whole(copy: Path, manifest: Manifest) -> bool:
    """Whether the copy has all files in their length: whoever clears a cache may leave half of it."""
    with suppress(OSError):
        return all((copy / name).stat().st_size == record.bytes for name, record in manifest.files.items())
    return False


def _fetch_folder(place: ObjectPath, manifest: Manifest, copy: Path) -> None:
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".fetching-") as name:
        draft = Path(name) / copy.name
        for file, record in manifest.files.items():
            _fetch_file(place / file, draft / file, record.bytes, record.sha256)
        # Last, and as it was read: it names what else is there.
        (draft / MANIFEST).write_bytes(_manifest(place))
        if copy.exists():
            shutil.rmtree(copy)
        with suppress(OSError):  # another process was faster: its copy has the same id
            draft.rename(copy)


def _fetch_file(place: ObjectPath, file: Path, size: int, sha256: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for begin in range(0, size, PIECE):
            data = place.read_at(begin, min(PIECE, size - begin))
            digest.update(data)
            out.write(data)
    if digest.hexdigest() != sha256:
        raise BundleError(f"{place}: does not match its hash in {MANIFEST}; copy or export the bundle again")

"""The files of a bundle, in its folder or its zip."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vssl.bundle.manifest import MANIFEST
from vssl.errors import BundleError

MAX_RATIO, SMALL_BYTES = 20, 2**20
"""A member of an archive, once over some size, unpacks to at most so many times its own: weights hardly shrink."""


def read_one_past(location: Path, name: str, limit: int) -> bytes:
    """At most `limit` + 1 bytes of one file: one byte too many is enough to see that it is too long."""
    with opened(location, name) as file:
        return file.read(limit + 1)


@contextmanager
def opened(location: Path, name: str) -> Iterator[IO[bytes]]:
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


def unlisted(location: Path, listed: Mapping[str, Any]) -> Iterator[str]:
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

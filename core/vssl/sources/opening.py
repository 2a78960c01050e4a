"""Opens the source that a user names. This module alone knows every kind."""

import os
from contextlib import closing
from pathlib import Path

from vssl.errors import UsageError
from vssl.images.names import hidden, is_image
from vssl.objects.address import address_of
from vssl.objects.path import ObjectPath
from vssl.sources.archives.archive import is_archive
from vssl.sources.archives.shards import Shards, names_of, shards_in, shards_of
from vssl.sources.archives.tars import TarFolder
from vssl.sources.archives.zips import ZipFolder
from vssl.sources.folder import Folder
from vssl.sources.folder_walk import is_folder
from vssl.sources.object_folder import ObjectFolder
from vssl.sources.patience import read_file
from vssl.sources.selections import MAGIC, Matching
from vssl.sources.source import Source

SPLITS = frozenset({"train", "val", "valid", "validation", "test"})

COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
"""First bytes of a compressed file, and the tool that unpacks it."""


def open_source(location: str) -> Source:
    """Open a folder, a `.zip` or `.tar`, `archive.zip::folder`, a folder of tar shards, `name-{0000..0099}.tar`, or a
    pattern such as `folder/**/*.jpg`. Each of them may lie in an object store: `s3://bucket/photos`; of a web server
    archives alone are read.

    Raises:
        UsageError: nothing is there, or it is neither a folder nor such an archive.
        OSError: it can't be read.
    """
    if (address := address_of(location)) is not None:
        return _open_stored(address)
    if Path(location).is_dir():
        shards, beside = shards_in(Path(location))
        return Shards(Path(location).resolve().name, shards, beside) if shards else Folder(Path(location))
    archive, _, inside = location.partition("::")
    path = Path(archive)
    if path.is_dir():
        raise UsageError(f"{location}: only an archive can be followed by `::folder`; {archive} is a folder")
    if path.is_file():
        return open_archive(path, inside)
    shards = shards_of(location)
    if shards:
        return Shards("/".join(Path(location).parts[-1 - next(iter(shards)).count("/") :]), shards)
    if MAGIC.search(archive) and not is_archive(path.name):
        return Matching(location)
    hint = "; a pattern names images, not archives" if MAGIC.search(archive) else ""
    raise UsageError(f"{archive}: no such file or folder{hint}")


def _open_stored(address: str) -> Source:
    """The same for an address."""
    archive, _, inside = address.partition("::")
    names = archive.split("/")
    shards = {name: ObjectPath(place) for name, place in names_of(archive).items()}
    if shards:
        return Shards("/".join(names[-1 - next(iter(shards)).count("/") :]), shards)
    if is_archive(names[-1]) and len(names) > 3:
        kind = TarFolder if names[-1].lower().endswith(".tar") else ZipFolder
        source = kind(ObjectPath(archive), inside)
        source.check()
        return source
    if address.startswith("http"):
        raise UsageError(f"{address}: a web server can't list its files; name a .tar or .zip on it")
    first = next((number for number, name in enumerate(names) if MAGIC.search(name)), len(names))
    if first < 3:
        raise UsageError(f"{address}: name a bucket, such as {names[0]}//photographs/2024")
    return ObjectFolder(ObjectPath("/".join(names[:first])), names[first:])


def splits_of(location: str) -> dict[str, str]:
    """Location of each split, by its name in lower case.

    Empty unless all images lie in top folders named `train` (or `Train`) and like other splits.
    """
    root = Path(location)
    if address_of(location) is not None:
        return {}
    if root.is_dir():
        with os.scandir(root) as found:
            tops = {
                entry.name for entry in found if not hidden(entry.name) and (is_folder(entry) or is_image(entry.name))
            }
        join = "/"
        if "train" not in map(str.lower, tops):
            return {}
    elif root.is_file() or "::" in location:
        with closing(open_source(location)) as source:
            tops = {path.split("/")[0] for path in source.paths()}
        join = "/" if "::" in location else "::"
    else:
        return {}
    splits = {top.lower(): f"{location}{join}{top}" for top in sorted(tops)}
    return splits if "train" in splits and splits.keys() <= SPLITS and len(splits) == len(tops) else {}


def open_archive(path: Path, folder: str) -> Source:
    """A zip or tar archive, by its content.

    Raises:
        UsageError: it is neither, it is compressed as a whole, or there is no such folder in it.
        OSError: it can't be read.
    """
    start = read_file(path, 512)
    for magic, tool in COMPRESSED.items():
        if start.startswith(magic):
            raise UsageError(f"{path}: compressed, so its images can't be found in place; {tool} it first")
    kind = TarFolder if start[257:262] == b"ustar" or path.suffix.lower() == ".tar" else ZipFolder
    source = kind(path, folder)
    source.check()
    return source

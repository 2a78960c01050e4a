"""Archives of images read in place: a zip, a tar, and a set of tar shards as WebDataset has them.

Every image is found by an index that is made when the archive is opened, so any of them can be read at any time.
"""

import os
import posixpath
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from vssl.errors import UsageError
from vssl.names import decode_name, encode_name
from vssl.passed_over import hidden, is_image
from vssl.sources import Source, within

COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
"""First bytes of a compressed file, and what unpacks it."""

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class ZipFolder(Source):
    """A folder inside a zip archive, read without unpacking."""

    def __init__(self, archive: Path, folder: str) -> None:
        super().__init__(_shown(archive, folder))
        try:
            self._archive = zipfile.ZipFile(archive)
        except OSError:
            raise
        except Exception as error:
            # zipfile raises whatever the broken bytes lead to: BadZipFile, UnicodeDecodeError, NotImplementedError, …
            raise UsageError(f"{archive}: neither a folder nor a readable zip or tar archive ({error})") from error
        self._file, self._process = archive, os.getpid()
        self._prefix = _prefix(folder)
        try:
            self._paths = _inside(archive, folder, self._archive.namelist())
        except UsageError:
            self._archive.close()
            raise

    def paths(self) -> Iterator[str]:
        """In the order of the folder that was archived."""
        yield from self._paths

    def read(self, path: str, max_bytes: int) -> bytes:
        """The member's bytes, unpacked no further than `max_bytes`."""
        if self._process != os.getpid():
            # A forked worker shares the open file, and its position, with all the others: it opens one of its own.
            self._archive.fp, self._process = self._file.open("rb"), os.getpid()
        try:
            with self._archive.open(self._prefix + decode_name(path)) as member:
                data = member.read(max_bytes + 1)
        except Exception as error:
            raise OSError(f"can't be read from the archive: {error}") from error
        return within(data, max_bytes)

    def size(self, path: str) -> int:
        """The member's bytes, unpacked."""
        try:
            return self._archive.getinfo(self._prefix + decode_name(path)).file_size
        except KeyError as error:
            raise FileNotFoundError(str(error)) from error

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


class TarFolder(Source):
    """A folder inside an uncompressed tar archive. Nothing is held open: the index says where each image begins."""

    def __init__(self, archive: Path, folder: str = "") -> None:
        super().__init__(_shown(archive, folder))
        self._file, self._prefix = archive, _prefix(folder)
        self.members = index_tar(archive)
        self._paths = _inside(archive, folder, self.members)

    def paths(self) -> Iterator[str]:
        """In the order of the folder that was archived."""
        yield from self._paths

    def read(self, path: str, max_bytes: int) -> bytes:
        """The member's bytes."""
        return within(self.member(self._prefix + decode_name(path), max_bytes + 1), max_bytes)

    def size(self, path: str) -> int:
        """The member's bytes."""
        name = self._prefix + decode_name(path)
        if name not in self.members:
            raise FileNotFoundError(f"no item named {name!r}")
        return self.members[name][1]

    def label(self, path: str) -> str | None:
        """What `NAME.cls` beside `NAME.jpg` says, as WebDataset has it, else the top folder."""
        # WebDataset's key ends at the first dot of the file name.
        folder, name = posixpath.split(self._prefix + decode_name(path))
        key = posixpath.join(folder, name.partition(".")[0] + ".cls")
        if key in self.members:
            return self.member(key, 100).decode(errors="replace").strip()
        return super().label(path)

    def member(self, name: str, most: int) -> bytes:
        """At most `most` bytes of any member, by its name in the archive."""
        if name not in self.members:
            raise OSError(f"can't be read from the archive: no item named {name!r}")
        offset, size = self.members[name]
        if offset < 0:
            raise OSError("can't be read from the archive: a link to nothing, or a sparse file")
        with self._file.open("rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(min(size, most))
        if len(data) < min(size, most):
            raise OSError("can't be read from the archive: it ends too early")
        return data


class Shards(Source):
    """Tar archives that together hold one set, such as WebDataset's `shards-{0000..0099}.tar`.

    A path starts with where its shard lies: its file name, or `day-0/images.tar` of shards in numbered folders. A
    class is what `NAME.cls` beside `NAME.jpg` says, else the image's top folder inside its shard.

    Args:
        name: of the set.
        archives: the shards in their order, and the path of each, all of one depth; no two are equal.
    """

    def __init__(self, name: str, archives: Mapping[str, Path]) -> None:
        super().__init__(name)
        self._shards = {encode_name(shard): TarFolder(path) for shard, path in archives.items()}
        self._depth = next(iter(archives)).count("/") + 1

    def paths(self) -> Iterator[str]:
        """Shard after shard."""
        for name, shard in self._shards.items():
            yield from (f"{name}/{path}" for path in shard.paths())

    def read(self, path: str, max_bytes: int) -> bytes:
        """The member's bytes."""
        shard, inside = self._split(path)
        return self._shards[shard].read(inside, max_bytes)

    def size(self, path: str) -> int:
        """The member's bytes."""
        shard, inside = self._split(path)
        if shard not in self._shards:
            raise FileNotFoundError(f"no shard named {shard!r}")
        return self._shards[shard].size(inside)

    def label(self, path: str) -> str | None:
        """What the image's shard says; never where the shard lies."""
        shard, inside = self._split(path)
        return self._shards[shard].label(inside)

    def _split(self, path: str) -> tuple[str, str]:
        names = path.split("/")
        return "/".join(names[: self._depth]), "/".join(names[self._depth :])


def open_archive(path: Path, folder: str) -> Source:
    """A zip or tar archive, by its content.

    Raises:
        UsageError: it is neither, it is compressed as a whole, or there is no such folder in it.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    for magic, tool in COMPRESSED.items():
        if start.startswith(magic):
            raise UsageError(f"{path}: compressed, so its images can't be found in place; {tool} it first")
    if start[257:262] == b"ustar" or path.suffix == ".tar":
        return TarFolder(path, folder)
    return ZipFolder(path, folder)


def index_tar(archive: Path) -> dict[str, tuple[int, int]]:
    """Where each file of a tar lies: name → (offset, size in bytes); the offset of one that can't be read is -1.

    A name that is there twice means its last file, as it does when a tar is unpacked.

    Raises:
        UsageError: the file is no uncompressed tar, or damaged on the way to its end.
    """
    found: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                name = _clean(member.name)
                if member.isreg():
                    found[name] = (-1 if member.issparse() else member.offset_data, member.size)
                    links.pop(name, None)
                elif member.islnk() or member.issym():
                    beside = posixpath.dirname(name) if member.issym() else ""
                    links[name] = _clean(posixpath.join(beside, member.linkname))
                tar.members.clear()  # type: ignore[attr-defined]  # a million of them would take a gigabyte
            end = tar.offset
    except OSError:
        raise
    except Exception as error:
        raise UsageError(f"{archive}: no tar archive, or a damaged one ({error})") from error
    with archive.open("rb") as file:
        file.seek(end)
        rest = file.read(tarfile.BLOCKSIZE)
    if rest.strip(b"\0"):
        # tarfile takes a damaged header for the end, and would lose whatever follows without a word.
        raise UsageError(f"{archive}: damaged at byte {end:,}, after {len(found):,} files; make it again")
    for name in links:
        target = name
        for _ in range(40):  # as many links in a row as Linux follows
            target = links.get(target, target)
        found[name] = found.get(target, (-1, 0))
    return found


def shards_of(location: str) -> dict[str, Path]:
    """The files that `name-{0000..0099}.tar` stands for, by the part of their path that begins with the first name
    that has such a range; empty if there is none in `location`. There may be several ranges, in folders too.

    Raises:
        UsageError: one of them is missing.
    """
    match = RANGE.search(location)
    if match is None:
        return {}
    folder = location[: location.rfind("/", 0, match.start()) + 1]
    paths = {name.removeprefix(folder): Path(name) for name in _expanded(location)}
    missing = next((path for path in paths.values() if not path.is_file()), None)
    if missing is not None or not paths:
        raise UsageError(f"{location}: {missing or 'an empty range'}: no such shard")
    return paths


def _expanded(location: str) -> Iterator[str]:
    match = RANGE.search(location)
    if match is None:
        yield location
        return
    for number in range(int(match[1]), int(match[2]) + 1):
        for rest in _expanded(location[match.end() :]):
            yield f"{location[: match.start()]}{number:0{len(match[1])}}{rest}"


def shards_in(folder: Path) -> dict[str, Path]:
    """The tar archives in a folder of shards, by name; empty for a folder that holds images or other folders."""
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not hidden(entry.name)]
    if any(entry.is_dir() or is_image(entry.name) for entry in shown):
        return {}
    names = sorted(entry.name for entry in shown if PurePosixPath(entry.name).suffix.lower() == ".tar")
    return {name: folder / name for name in names}


def _shown(archive: Path, folder: str) -> str:
    inside = folder.strip("/")
    return f"{archive.name}::{inside}" if inside else archive.name


def _prefix(folder: str) -> str:
    inside = folder.strip("/")
    return f"{inside}/" if inside else ""


def _clean(name: str) -> str:
    """`./a//b` and `/a/b` as `a/b`."""
    return posixpath.normpath(name).lstrip("/")


def _inside(archive: Path, folder: str, members: Iterable[str]) -> list[str]:
    """Images below a folder of an archive, relative to it, in the order of the folder that was archived."""
    prefix, everything = _prefix(folder), set(members)
    names = {name for name in everything if name.startswith(prefix)}
    if prefix and not names:
        tops = sorted({name.split("/")[0] for name in everything if "/" in name})
        raise UsageError(
            f"{archive}: no folder {prefix[:-1]!r} inside; its top folders are {', '.join(tops[:10]) or 'none'}"
        )
    inner = (name[len(prefix) :] for name in names if not name.endswith("/"))
    shown = (encode_name(name) for name in inner if is_image(name) and not hidden(name))
    return sorted(shown, key=lambda name: name.split("/"))

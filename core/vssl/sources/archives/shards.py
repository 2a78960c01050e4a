"""Sets of tar archives in the layout of WebDataset."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vssl.errors import UsageError
from vssl.images.names import encode_name, hidden, is_image
from vssl.objects.path import ObjectPath
from vssl.sources.archives.archive import is_archive
from vssl.sources.archives.tars import TarFolder
from vssl.sources.folder_walk import is_folder
from vssl.sources.passed_over import OTHER, PassedOver, kind_of
from vssl.sources.patience import patiently
from vssl.sources.source import Source

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Shards(Source):
    """Tar archives that together hold one set, such as WebDataset's `shards-{0000..0099}.tar`.

    A path starts with the place of its shard: a file name, or `day-0/images.tar` of shards in numbered folders. The
    class of `NAME.jpg` is the content of `NAME.cls` beside it, else the image's top folder inside its shard.

    Args:
        name: of the set.
        archives: name → path or address of each shard, in order. All names are of one depth.
        beside: other files, which are passed over.
    """

    lists_sizes = True

    def __init__(self, name: str, archives: Mapping[str, Path | ObjectPath], beside: Sequence[str] = ()) -> None:
        super().__init__(name)
        self._beside = beside
        self._shards = {encode_name(shard): TarFolder(path) for shard, path in archives.items()}
        self.remote = any(shard.remote for shard in self._shards.values())
        self._depth = next(iter(archives)).count("/") + 1

    def paths(self) -> Iterator[str]:
        """Shard after shard; one that can't be read is noted."""
        passed = PassedOver()
        for file in self._beside:
            passed.add(kind_of(file) or OTHER)
        for name, shard in self._shards.items():
            try:
                for path in shard.paths():
                    yield f"{name}/{path}"
            except (UsageError, OSError) as error:
                passed.unreadable[name] = str(error)
                continue
            for kind, count in shard.passed_over.counts.items():
                passed.add(kind, count)
            for reason in shard.passed_over.unreadable.values():
                passed.unreadable[name] = reason
        self.passed_over = passed

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
        """The label that the shard gives; the place of the shard does not count."""
        shard, inside = self._split(path)
        return self._shards[shard].label(inside)

    def _split(self, path: str) -> tuple[str, str]:
        names = path.split("/")
        return "/".join(names[: self._depth]), "/".join(names[self._depth :])


def shards_of(location: str) -> dict[str, Path]:
    """The files that `name-{0000..0099}.tar` stands for; empty if `location` holds no range.

    There may be several ranges, in folders too. Each key is the path from the first name with a range on.

    Raises:
        UsageError: one of them is missing.
    """
    if RANGE.search(location) is None:
        return {}
    paths = {name: Path(place) for name, place in names_of(location).items()}
    missing = next((path for path in paths.values() if not path.is_file()), None)
    if missing is not None or not paths:
        raise UsageError(f"{location}: {missing or 'an empty range'}: no such shard")
    return paths


def names_of(location: str) -> dict[str, str]:
    """What each name of a location with a range stands for, without a look whether it is there."""
    match = RANGE.search(location)
    if match is None:
        return {}
    folder = location[: location.rfind("/", 0, match.start()) + 1]
    return {name.removeprefix(folder): name for name in _expanded(location)}


def _expanded(location: str) -> Iterator[str]:
    match = RANGE.search(location)
    if match is None:
        yield location
        return
    for number in range(int(match[1]), int(match[2]) + 1):
        for rest in _expanded(location[match.end() :]):
            yield f"{location[: match.start()]}{number:0{len(match[1])}}{rest}"


def shards_in(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The tar archives in a folder of shards, by name, and its other files; both empty if it holds images or folders.

    Raises:
        OSError: it can't be read.
    """
    return patiently(lambda: _shards_in(folder))


def _shards_in(folder: Path) -> tuple[dict[str, Path], list[str]]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not hidden(entry.name) and (is_image(entry.name) or is_folder(entry)):
                return {}, []  # at once: there may be millions
            names.append(entry.name)
    names.sort()
    shards = {name: folder / name for name in names if not hidden(name) and is_archive(name, (".tar",))}
    return shards, [name for name in names if name not in shards]

"""The parts of a folder, found by their names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from vssl.errors import UsageError
from vssl.objects.path import AnyPath, ObjectPath, path_of
from vssl_client.formats.contract import FORMATS, PART, Format, open_format


@overload
def parts_of(folder: Path, suffix: str = ".parquet") -> list[Path]: ...
@overload
def parts_of(folder: AnyPath, suffix: str = ".parquet") -> list[AnyPath]: ...
def parts_of(folder: AnyPath, suffix: str = ".parquet") -> Sequence[AnyPath]:
    """The finished parts of a folder, in order."""
    found = [part for part in entries_of(folder) if (name := PART.fullmatch(part.name)) and name[2] == suffix]
    return sorted(found, key=number_of)


def entries_of(folder: AnyPath) -> Iterator[AnyPath]:
    """The files in a folder, and its folders unless it lies in an object store.

    Raises:
        OSError: it can't be listed.
    """
    if isinstance(folder, ObjectPath):
        return (folder / path for path, _ in folder.under() if "/" not in path)
    return folder.iterdir()


def number_of(part: AnyPath) -> int:
    """The number in a part's name."""
    return int(part.stem.removeprefix("part-"))


def other_files_in(folder: AnyPath, suffix: str) -> list[str]:
    """Names of what is not a part of this format, without hidden files, which readers of the folder skip."""
    names = (entry.name for entry in entries_of(folder) if entry.name[0] not in "._")
    return sorted(name for name in names if not ((found := PART.fullmatch(name)) and found[2] == suffix))


def find_parts(folder: AnyPath) -> tuple[Format, list[AnyPath]]:
    """The format of a folder's parts, and the parts.

    Raises:
        UsageError: it holds no parts, or something named like a part that is not one.
    """
    folder = path_of(folder)
    names = FORMATS if isinstance(folder, ObjectPath) or folder.is_dir() else ()
    kinds = [name for name in names if parts_of(folder, f".{name}")]
    if not kinds:
        raise UsageError(f"{folder}: holds no embeddings; `vssl embed SOURCE -o {folder}` writes them")
    like = [name for name in other_files_in(folder, f".{kinds[0]}") if name.startswith("part-")]
    if like:
        raise UsageError(f"{folder}: {like[0]} is not named as a part of it is; move it out of the folder")
    return open_format(kinds[0]), parts_of(folder, f".{kinds[0]}")

"""The formats that parts of a folder are written in."""

import re
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

from vssl.errors import UsageError
from vssl_client.parts.rows import Columns, Origin, Rows

FormatName = Literal["parquet", "npz", "jsonl"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
"""Each has a module of its name here."""
PART = re.compile(r"part-(\d{6}|[1-9]\d{6,})(\.\w+)")
"""Exactly the names that a job gives: a `part-000000 copy.parquet` would repeat its rows."""


class Format(Protocol):
    """A module that writes and reads one format."""

    SUFFIX: str

    def write_part(self, file: Path, origin: Origin, rows: Rows) -> None:
        """Write one part, whole or not at all.

        Raises:
            OSError: the disk is full, or can't be written to.
        """

    def read_origin(self, part: Path) -> Origin:
        """The model and the source of a part.

        Raises:
            VsslError: it can't be read, or is not a part.
        """

    def read_part(self, part: Path, columns: Collection[str]) -> Columns:
        """Some columns of all rows of a part, reading little more than these.

        Raises:
            VsslError: it can't be read, or is not a part.
        """


def open_format(name: FormatName) -> Format:
    """The module of that format.

    Raises:
        UsageError: there is no format of that name.
        ModuleNotFoundError: a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise UsageError(f"format {name!r} is not one of {', '.join(FORMATS)}")
    return cast(Format, import_module(f"vssl_client.parts.{name}"))


def parts_of(folder: Path, suffix: str = ".parquet") -> list[Path]:
    """The finished parts of a folder, in order."""
    found = [part for part in folder.iterdir() if (name := PART.fullmatch(part.name)) and name[2] == suffix]
    return sorted(found, key=number_of)


def number_of(part: Path) -> int:
    """The number in a part's name."""
    return int(part.stem.removeprefix("part-"))


def other_files_in(folder: Path, suffix: str) -> list[str]:
    """Names of what is not a part of this format, without hidden files, which readers of the folder skip."""
    names = (entry.name for entry in folder.iterdir() if entry.name[0] not in "._")
    return sorted(name for name in names if not ((found := PART.fullmatch(name)) and found[2] == suffix))


def find_parts(folder: Path) -> tuple[Format, list[Path]]:
    """The format of a folder's parts, and the parts.

    Raises:
        UsageError: it holds no parts, or something named like a part that is not one.
    """
    names = FORMATS if folder.is_dir() else ()
    kinds = [name for name in names if parts_of(folder, f".{name}")]
    if not kinds:
        raise UsageError(f"{folder}: holds no embeddings; `vssl embed SOURCE -o {folder}` writes them")
    like = [name for name in other_files_in(folder, f".{kinds[0]}") if name.startswith("part-")]
    if like:
        raise UsageError(f"{folder}: {like[0]} is not named as a part of it is; move it out of the folder")
    return open_format(kinds[0]), parts_of(folder, f".{kinds[0]}")

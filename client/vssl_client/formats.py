"""The formats that parts of a folder are written in."""

from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

from vssl.errors import UsageError
from vssl_client.rows import Origin, Rows

FormatName = Literal["parquet", "npz", "jsonl"]
MODULES: dict[FormatName, str] = {"parquet": "table", "npz": "npz", "jsonl": "jsonl"}


class Format(Protocol):
    """A module that writes and reads one format; Parquet's reads whole folders too (`vssl_client.table`)."""

    SUFFIX: str

    def write_part(self, file: Path, origin: Origin, rows: Rows) -> None:
        """Write one part, whole or not at all.

        Raises:
            OSError: the disk is full, or can't be written to.
        """

    def read_origin(self, part: Path) -> Origin:
        """Which model and which source a part comes from.

        Raises:
            VsslError: it is not a part that can be read.
        """

    def read_done(self, part: Path) -> tuple[list[str], list[str | None]]:
        """The paths in a part, and for each the reason why it has no embedding, or None.

        Raises:
            VsslError: it is not a part that can be read.
        """


def open_format(name: FormatName) -> Format:
    """The module of that format.

    Raises:
        UsageError: there is none of that name.
        ModuleNotFoundError: what it needs is not installed.
    """
    if name not in get_args(FormatName):
        raise UsageError(f"format {name!r} is not one of {', '.join(get_args(FormatName))}")
    return cast(Format, import_module(f"vssl_client.{MODULES[name]}"))


def parts_of(folder: Path, suffix: str = ".parquet") -> list[Path]:
    """The finished parts of a folder, in order."""
    return sorted(folder.glob(f"part-*{suffix}"))

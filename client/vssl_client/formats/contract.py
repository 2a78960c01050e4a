"""What a format of files of embeddings does, and the formats that there are."""

import re
from collections.abc import Collection
from importlib import import_module
from typing import Literal, Protocol, cast, get_args

from vssl.errors import UsageError
from vssl.objects.path import AnyPath
from vssl_client.formats.columns import Columns, Origin

FormatName = Literal["parquet", "npz", "jsonl"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
"""Each has a module of its name here."""
PART = re.compile(r"part-(\d{6}|[1-9]\d{6,})(\.\w+)")
"""Exactly the names that a job gives: a `part-000000 copy.parquet` would repeat its rows."""


class Format(Protocol):
    """A module that writes and reads one format."""

    SUFFIX: str

    def write_part(self, file: AnyPath, origin: Origin, columns: Columns) -> None:
        """Write one part with all columns, whole or not at all.

        Raises:
            OSError: the disk is full, or can't be written to.
        """

    def read_origin(self, part: AnyPath) -> Origin:
        """The model and the source of a part.

        Raises:
            VsslError: it can't be read, or is not a part.
        """

    def read_part(self, part: AnyPath, columns: Collection[str]) -> Columns:
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
    return cast(Format, import_module(f"vssl_client.formats.{name}"))

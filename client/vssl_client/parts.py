"""Rows collected into parts of a folder."""

import time
from collections.abc import Sequence
from pathlib import Path

from vssl.errors import VsslError
from vssl_client.formats import Format
from vssl_client.rows import Origin, Rows

PART_ROWS = 4096
PART_SECONDS = 30.0
"""A part is full after so many rows or seconds, whichever comes first: the most that a kill makes us do again."""


class PartWriter:
    """Collects rows and writes them as the next part.

    Args:
        out: the folder.
        format: what its parts are written in.
        origin: what its parts share.
        parts: those that it holds already; their numbers are not used again.
    """

    def __init__(self, out: Path, format: Format, origin: Origin, parts: Sequence[Path]) -> None:
        self.collected: list[Rows] = []
        self._out, self._format, self._origin = out, format, origin
        self._number = 1 + max((int(part.stem.removeprefix("part-")) for part in parts), default=-1)
        self._begun = time.monotonic()

    def add(self, rows: Rows) -> bool:
        """Collect rows; whether the part is full now."""
        self.collected.append(rows)
        full = sum(map(len, self.collected)) >= PART_ROWS
        return full or time.monotonic() - self._begun >= PART_SECONDS

    def write(self, rows: Rows) -> None:
        """Write the part and begin the next one.

        Raises:
            VsslError: the disk is full, or can't be written to; no half part is left.
        """
        part = self._out / f"part-{self._number:06d}{self._format.SUFFIX}"
        try:
            self._format.write_part(part, self._origin, rows)
        except OSError as error:
            raise VsslError(
                f"{part}: can't be written ({error.strerror or error}); the parts before it stay: make room, then run "
                "the same command again to go on"
            ) from error
        self._number += 1
        self.collected, self._begun = [], time.monotonic()

"""Rows collected into parts of a folder."""

import time
from collections.abc import Sequence

from vssl.errors import VsslError
from vssl.objects.path import AnyPath, ObjectPath
from vssl_client.formats.columns import COLUMNS, Origin
from vssl_client.formats.contract import Format
from vssl_client.parts.finding import number_of
from vssl_client.parts.rows import Rows, replaced

PART_ROWS = 4096
PART_SECONDS = 30.0
"""A part is full after so many rows or seconds, whichever comes first: a kill costs no more work than that."""


class PartWriter:
    """Collects rows and writes them as the next part.

    Args:
        out: the folder.
        format: what its parts are written in.
        origin: what its parts share.
        parts: the parts that it holds already; their numbers are not used again.
    """

    def __init__(self, out: AnyPath, format: Format, origin: Origin, parts: Sequence[AnyPath]) -> None:
        self.collected: list[Rows] = []
        self._out, self._format, self._origin = out, format, origin
        self._number = 1 + max((number_of(part) for part in parts), default=-1)
        self._begun = time.monotonic()

    def add(self, rows: Rows) -> bool:
        """Collect rows; True if the part is full now."""
        self.collected.append(rows)
        full = sum(map(len, self.collected)) >= PART_ROWS
        return full or time.monotonic() - self._begun >= PART_SECONDS

    def write(self, rows: Rows) -> None:
        """Write the part and begin the next one.

        Raises:
            VsslError: the disk is full, or can't be written to; no half part is left.
        """
        self._put(self._out / f"part-{self._number:06d}{self._format.SUFFIX}", rows)
        self._number += 1
        self.collected, self._begun = [], time.monotonic()

    def rewrite(self, part: AnyPath, places: Sequence[int], fresh: Rows) -> None:
        """Write an earlier part again, with fresh rows in some places.

        Raises:
            VsslError: the part can't be read, or the disk is full; the part stays as it was.
        """
        part = part.seen() if isinstance(part, ObjectPath) else part
        self._put(part, replaced(self._format.read_part(part, COLUMNS), self._origin, places, fresh))

    def _put(self, part: AnyPath, rows: Rows) -> None:
        try:
            self._format.write_part(part, self._origin, rows.as_columns(self._origin.dimension))
        except FileExistsError as error:
            raise VsslError(
                f"{part}: another vssl process is writing to this folder; wait for it or end it, then run the same "
                "command again to go on"
            ) from error
        except OSError as error:
            reason = error.strerror or "is the disk full?"
            raise VsslError(
                f"{part}: can't be written ({reason}); the parts that are finished stay: make room, then run the same "
                "command again to go on"
            ) from error

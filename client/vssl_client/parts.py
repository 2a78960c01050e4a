"""Rows collected into parts of a folder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vssl.errors import VsslError
from vssl_client.result import EmbeddingResult, joined
from vssl_client.table import PART, Origin, write_part

PART_ROWS = 4096
PART_SECONDS = 30.0
"""A part is full after so many rows or seconds, whichever comes first: the most that a kill makes us do again."""


@dataclass(frozen=True)
class Rows:
    """Results of consecutive images, with the SHA-256 and the size of their files, None where one can't be read."""

    paths: list[str]
    hashes: list[str | None]
    sizes: list[int | None]
    result: EmbeddingResult


class PartWriter:
    """Collects rows and writes them as the next part.

    Args:
        out: the folder.
        origin: what its parts share.
        parts: those that it holds already; their numbers are not used again.
    """

    def __init__(self, out: Path, origin: Origin, parts: Sequence[Path]) -> None:
        self.collected: list[Rows] = []
        self._out, self._origin = out, origin
        self._number = 1 + max((int(part.stem.removeprefix("part-")) for part in parts), default=-1)
        self._begun = time.monotonic()

    def add(self, rows: Rows) -> bool:
        """Collect rows; whether the part is full now."""
        self.collected.append(rows)
        full = sum(len(rows.paths) for rows in self.collected) >= PART_ROWS
        return full or time.monotonic() - self._begun >= PART_SECONDS

    def joined(self) -> Rows:
        """All that is collected, at least one row.

        Raises:
            ModelChanged: it comes from different models.
        """
        rows = self.collected
        return Rows(
            [path for one in rows for path in one.paths],
            [sha256 for one in rows for sha256 in one.hashes],
            [size for one in rows for size in one.sizes],
            joined([one.result for one in rows]),
        )

    def write(self, rows: Rows) -> None:
        """Write the part and begin the next one.

        Raises:
            VsslError: the disk is full, or can't be written to; no half part is left.
        """
        part = self._out / PART.format(self._number)
        try:
            write_part(part, self._origin, rows.paths, rows.hashes, rows.sizes, rows.result)
        except OSError as error:
            raise VsslError(
                f"{part}: can't be written ({error.strerror or error}); the parts before it stay: make room, then run "
                "the same command again to go on"
            ) from error
        self._number += 1
        self.collected, self._begun = [], time.monotonic()

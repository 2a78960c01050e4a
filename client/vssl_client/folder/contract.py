"""What a folder job gets and gives: the choice of images, the work; the plan, progress and the summary."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from vssl_client.embedding.contract import Embedder
from vssl_client.folder.reading import ImageFile

SHOWN_FAILURES = 10

T = TypeVar("T")

Embed = Callable[[Embedder, list[ImageFile]], T]
"""Embeds a batch of files that were read."""

Work = Callable[[Iterator[list[str]]], AbstractContextManager[Iterator[T]]]
"""Reads and embeds the files of chunks of paths, and gives what becomes of them in order, a batch at a time."""


@dataclass
class Summary:
    """Images with a row in the whole folder, those of earlier runs included; `new` counts those of this run.

    `failures` are the first few, as (path, reason). `changed` counts the files that differ from what was embedded
    under their name, among those that were looked at, and `changes` names the first few. `passed_over` counts the
    source's other files by kind, and `unreadable` has the reason for each of its folders or shards that could not be
    read.
    """

    embedded: int = 0
    failed: int = 0
    new: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    changed: int = 0
    changes: list[str] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, paths: Sequence[str], reasons: Sequence[str | None]) -> None:
        """Count rows, each with the reason why it failed, or None."""
        bad = [(paths[row], reason) for row, reason in enumerate(reasons) if reason is not None]
        self.failed += len(bad)
        self.embedded += len(paths) - len(bad)
        self.failures += bad[: SHOWN_FAILURES - len(self.failures)]


@dataclass(frozen=True)
class Plan:
    """What a job would do: images of the source, those with a row, those that failed, those to embed now."""

    images: int
    done: int
    failed: int
    to_embed: int


@dataclass(frozen=True)
class Choice:
    """Which images are embedded, beside those that have no row yet.

    Attributes:
        retry_failed: again those that failed.
        changed: again those with another content than before; every file is read.
        limit: so many images at most.
        variance: False leaves it out.
    """

    retry_failed: bool = False
    changed: bool = False
    limit: int | None = None
    variance: bool = True


class Reporter:
    """Hears how far a job is; this one keeps it to itself."""

    def begin(self, done: int, failed: int) -> None:
        """The job begins. Earlier runs have given `done` images a row, and `failed` of them failed."""

    def advance(self, images: int, failed: int) -> None:
        """So many more images are done, and so many of them failed."""


SILENT = Reporter()
EVERYTHING = Choice()

"""A bar on the terminal: images done and failed, images/s, time left."""

import contextlib
import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from vssl.sources.source import Source
from vssl_client.folder.contract import Reporter


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} images/s")


class ProgressBar(Reporter):
    """Shows a job on standard error if that is a terminal. Use it in a `with` statement.

    A thread counts the images, so the first one does not wait for the listing of a large folder.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        console = Console(stderr=True)
        columns = (MofNCompleteColumn(), BarColumn(), _Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=None, note="")
        self._failed = 0

    def begin(self, done: int, failed: int) -> None:
        """Start at what is done; the rate counts from here."""
        self._progress.reset(self._task, total=None, completed=done)
        self.advance(0, failed)
        if not self._progress.disable:
            threading.Thread(target=self._count, daemon=True).start()

    def advance(self, images: int, failed: int) -> None:
        """Move on."""
        self._failed += failed
        note = f"{self._failed:,} failed" if self._failed else ""
        self._progress.update(self._task, advance=images, note=note)

    def _count(self) -> None:
        # The job reports a folder that can't be listed.
        with contextlib.suppress(OSError):
            self._progress.update(self._task, total=sum(1 for _ in self._source.paths()))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

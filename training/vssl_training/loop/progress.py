"""The progress line of a training run, on standard error."""

import sys
import time

from vssl.images.names import printable


class Progress:
    """One line that is rewritten on a terminal, and one line for each report elsewhere."""

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._terminal = sys.stderr.isatty()
        self._figures: dict[str, float] = {}

    def say(self, message: str) -> None:
        """Print a line of its own."""
        self._write(message, "\n")

    def begin(self, phase: str, start: int, steps: int, batch: int) -> None:
        """A phase begins (or goes on) at step `start`."""
        self._phase, self._steps, self._batch = phase, steps, batch
        self._start, self._clock = start, time.monotonic()
        self._figures = {}

    def advance(self, done: int, waited: float, figures: dict[str, float]) -> float:
        """Report step `done` and its figures; returns images/s since the phase began or went on.

        `waited`: seconds since then that steps waited for their images.
        """
        self._figures |= figures
        seconds = max(1e-9, time.monotonic() - self._clock)
        rate = (done - self._start) / seconds
        left = (self._steps - done) / rate
        shown = "  ".join(f"{name} {value:.3f}" for name, value in self._figures.items())
        line = (
            f"{self._phase} {done:,}/{self._steps:,}  {rate * self._batch:,.0f} images/s  "
            f"{waited / seconds:.0%} data wait  {clock(left)} left  {shown}"
        )
        if self._terminal or "knn" in figures or "rank" in figures or done == self._steps:
            self._write(line, "" if self._terminal else "\n")
        return rate * self._batch

    def end(self) -> None:
        """The phase is over: leave its last line standing."""
        if self._terminal and self._shown:
            sys.stderr.write("\n")

    def _write(self, text: str, end: str) -> None:
        if not self._shown:
            return
        start = "\r\033[K" if self._terminal else ""
        sys.stderr.write(f"{start}{printable(text)}{end}")
        sys.stderr.flush()


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

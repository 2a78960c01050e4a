"""Is the way to the servers the bottleneck? Measured on the first answers to image files, and decided once."""

import logging
import re
import threading
from dataclasses import dataclass

LOG = logging.getLogger("vssl.client")

ENOUGH_ANSWERS = 3
ENOUGH_SECONDS = 1.0
"""Of waiting for answers, in all, before anything is decided: less is not worth a change, and says little."""

_PART = re.compile(r"(total|receive);dur=([0-9]{1,12}(?:\.[0-9]{1,9})?)")


@dataclass(frozen=True)
class Spent:
    """Seconds that answers took: `way` from here to the servers and back, `served` in the servers; for `sent` bytes."""

    way: float = 0.0
    served: float = 0.0
    sent: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.way + other.way, self.served + other.served, self.sent + other.sent)


def served_seconds(header: str | None) -> float | None:
    """What a `Server-Timing` says of the server's own time, from the whole request on; None where it does not."""
    found = {name: float(value) for name, value in _PART.findall(header or "")}
    return max(0.0, found["total"] - found["receive"]) / 1000 if len(found) == 2 else None


def pays(spent: Spent, files: int, pixels: int, decoding: float) -> bool:
    """Whether to decode here: the way takes longer than the servers, and fewer bytes save more time than it costs.

    Args:
        spent: of answers to image files.
        files: bytes of a batch as files.
        pixels: bytes of the same as pixels.
        decoding: seconds that decoding it takes here.
    """
    return spent.way > spent.served and (files - pixels) * spent.way > decoding * spent.sent


class Line:
    """What is known of the way to the servers. May be used from many threads.

    Attributes:
        slow: the decision; None until there is one.
    """

    def __init__(self) -> None:
        self.slow: bool | None = None
        self.spent = Spent()
        self._answers = 0
        self._lock = threading.Lock()

    @property
    def measured(self) -> bool:
        """Whether it is time to decide."""
        seconds = self.spent.way + self.spent.served
        return self.slow is None and self._answers >= ENOUGH_ANSWERS and seconds >= ENOUGH_SECONDS

    def answered(self, sent: int, seconds: float, server_timing: str | None) -> None:
        """Image files of `sent` bytes were answered after so many seconds; without the server's times it counts not."""
        served = served_seconds(server_timing)
        if served is None or self.slow is not None:
            return
        with self._lock:
            self.spent += Spent(max(0.0, seconds - served), min(served, seconds), sent)
            self._answers += 1

    def decide(self, files: int, pixels: int, decoding: float) -> bool:
        """Decide, see `pays`, and say so; the first decision stays."""
        with self._lock:
            if self.slow is None:
                self.slow = pays(self.spent, files, pixels, decoding)
                LOG.info(
                    "%s: of the first answers' %.2f s the way took %.2f s",
                    "images are decoded here from now on and sent as pixels" if self.slow else "images go as files",
                    self.spent.way + self.spent.served,
                    self.spent.way,
                )
            return self.slow

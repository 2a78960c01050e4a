"""Files read for a job, many at once where they are far away: that costs time, and no core."""

import hashlib
import statistics
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from vssl.images.decoding import ImageError
from vssl.sources.source import Source
from vssl_client.embedding.pipeline import ordered
from vssl_client.errors import ImageRejected

READERS = 32
"""Reads under way at once for a batch."""

AHEAD = 16 * 2**20
"""Bytes read ahead for a batch, about: fewer reads are under way where images are large."""

FAR = 0.003
RECENT = 15
"""A source is far away where half of the last reads took so many seconds."""


@dataclass(frozen=True)
class ImageFile:
    """One file of a source as it was read: its bytes, their SHA-256 and number, its label; or why it can't be read."""

    path: str
    data: bytes = b""
    sha256: str | None = None
    size: int | None = None
    label: str | None = None
    problem: ImageRejected | None = None


def read_file(source: Source, path: str, max_bytes: int) -> ImageFile:
    """Read one file; what goes wrong is its `problem`."""
    try:
        label = source.label(path)
        data = source.read(path, max_bytes)
    except ImageError as error:
        return ImageFile(path, label=label, problem=ImageRejected(error.type, str(error)))
    except OSError as error:
        return ImageFile(path, problem=ImageRejected("unreadable", error.strerror or str(error)))
    return ImageFile(path, data, hashlib.sha256(data).hexdigest(), len(data), label)


class Reader:
    """Reads files of one source: one after the other while that is fast, many at once where each takes long.

    Many threads for files of this machine would only hinder those that decode. May be used from many threads. A file
    over `max_bytes` is refused.
    """

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source, self._max_bytes = source, max_bytes
        self._seconds: deque[float] = deque([0.0] * RECENT, RECENT)

    def read(self, paths: Iterable[str]) -> Generator[ImageFile, None, None]:
        """The files of `paths`, in order, read as they are taken or about `AHEAD` bytes ahead of that."""
        rest = iter(paths)
        for path in rest:
            yield self._timed(path)
            if statistics.median(self._seconds) > FAR:
                break
        with ordered(self._timed, rest, READERS, _full) as files:
            yield from files

    def _timed(self, path: str) -> ImageFile:
        begun = time.perf_counter()
        file = read_file(self._source, path, self._max_bytes)
        self._seconds.append(time.perf_counter() - begun)
        return file


def _full(pending: Sequence["Future[ImageFile]"]) -> bool:
    """Whether enough is read ahead; what is under way counts as much as a file of late."""
    sizes = [len(one.result().data) for one in pending if one.done() and one.exception() is None]
    usual = sum(sizes) / len(sizes) if sizes else AHEAD / READERS
    return sum(sizes) + (len(pending) - len(sizes)) * usual >= AHEAD

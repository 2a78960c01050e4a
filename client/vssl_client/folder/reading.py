"""Files read for a job, many at once if the source is slow: waiting costs no core."""

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

AHEAD_BYTES = 16 * 2**20
"""Read ahead for a batch, about: with large images fewer reads are under way."""

REMOTE_READERS = 64
REMOTE_BYTES = 128 * 2**20
"""The same where each read waits for a network, for all batches together."""

SLOW_SECONDS = 0.003
RECENT_READS = 15
"""A source is slow if the median of so many recent reads is over so many seconds."""


@dataclass(frozen=True)
class ImageFile:
    """One file of a source as read: its bytes, their SHA-256 and number, its label; or why it can't be read."""

    path: str
    data: bytes = b""
    sha256: str | None = None
    size: int | None = None
    label: str | None = None
    problem: ImageRejected | None = None


def read_file(source: Source, path: str, max_bytes: int) -> ImageFile:
    """Read one file; an error becomes its `problem`."""
    try:
        label = source.label(path)
        data = source.read(path, max_bytes)
    except ImageError as error:
        return ImageFile(path, label=label, problem=ImageRejected(error.type, str(error)))
    except OSError as error:
        return ImageFile(path, problem=ImageRejected("unreadable", error.strerror or str(error)))
    return ImageFile(path, data, hashlib.sha256(data).hexdigest(), len(data), label)


class Reader:
    """Reads files of one source: one after the other while that is fast, many at once if each takes long.

    For fast files, many threads would only slow down those that decode. Of a remote source many are read at once from
    the first on. May be used from many threads. A file over `max_bytes` is refused.
    """

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source, self._max_bytes = source, max_bytes
        self._readers, self._ahead = (REMOTE_READERS, REMOTE_BYTES) if source.remote else (READERS, AHEAD_BYTES)
        self._seconds: deque[float] = deque([0.0] * RECENT_READS, RECENT_READS)

    def read(self, paths: Iterable[str]) -> Generator[ImageFile, None, None]:
        """The files of `paths`, in order, read as they are taken, or up to about `AHEAD_BYTES` ahead."""
        rest = iter(paths)
        if not self._source.remote:
            for path in rest:
                yield self._timed(path)
                if statistics.median(self._seconds) > SLOW_SECONDS:
                    break
        with ordered(self._timed, rest, self._readers, self._full) as files:
            yield from files

    def _timed(self, path: str) -> ImageFile:
        begun = time.perf_counter()
        file = read_file(self._source, path, self._max_bytes)
        self._seconds.append(time.perf_counter() - begun)
        return file

    def _full(self, pending: Sequence["Future[ImageFile]"]) -> bool:
        """Whether enough is read ahead; a read under way counts as a file of the usual size."""
        sizes = [len(one.result().data) for one in pending if one.done() and one.exception() is None]
        usual = sum(sizes) / len(sizes) if sizes else self._ahead / self._readers
        return sum(sizes) + (len(pending) - len(sizes)) * usual >= self._ahead

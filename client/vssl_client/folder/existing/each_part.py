"""Work on one part after the other; on many at once where each waits for a network."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from vssl.objects.path import AnyPath, ObjectPath
from vssl_client.embedding.pipeline import ordered

R = TypeVar("R")

WORKERS = 16
"""Parts of an object store that are read at once."""


def each_part(work: Callable[[AnyPath], R], parts: Sequence[AnyPath]) -> Iterator[R]:
    """`work(part)` of each part, in order."""
    if any(isinstance(part, ObjectPath) for part in parts):
        with ordered(work, parts, WORKERS) as results:
            yield from results
    else:
        yield from map(work, parts)

"""Images embedded on the nodes of a cluster, each of which writes its own shards into the gallery."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import pyarrow as pa

from vssl_client.embedding.contract import Embedder
from vssl_client.filling.contract import Done, Target
from vssl_client.filling.describing import Known
from vssl_client.filling.embedding import Embedded, rows_of
from vssl_client.folder.contract import Embed
from vssl_client.folder.ray import RayWork
from vssl_client.folder.reading import Reader
from vssl_client.folder.work import embed_paths
from vssl_client.galleries.blocking import Gallery

CHUNKS = 4
"""Chunks of paths in one shard, which is one write: at most 256 images."""


@dataclass
class PutShard:
    """What a node does: embeds a shard, and writes its rows in one call. Done twice, they are there once.

    Args:
        open: opens the gallery on the node.
        embed: a batch of files.
    """

    open: Callable[[], Gallery]
    embed: Embed[Embedded]
    _gallery: Gallery | None = field(default=None, repr=False)

    def __call__(self, reader: Reader, embedder: Embedder, paths: list[str], given: Target) -> list[Done]:
        """What became of the shard; its rows are in the gallery by then.

        Raises:
            ClientError, GalleryError: what embeds, or the store, failed; nothing of the shard was written.
        """
        batches = embed_paths(reader, embedder, paths, self.embed)
        made = [rows_of(batch, given) for batch in batches]
        failures = [*chain.from_iterable(batch.failures for batch in batches), *chain.from_iterable(u for _, u in made)]
        rows = pa.concat_tables(some) if (some := [rows for rows, _ in made if rows is not None]) else None
        if rows is not None:
            self._gallery = self._gallery or self.open()
            self._gallery.put(rows)
        return [Done(len(paths), 0 if rows is None else rows.num_rows, failures)]


class PutThere:
    """A `Way`: the nodes of a cluster embed and write.

    Args:
        encoder_id: of the model that is sent to the nodes.
        work: does it, by a `PutShard`.
    """

    def __init__(self, encoder_id: str, work: RayWork[Done]) -> None:
        self.encoder_id: str | None = encoder_id
        self._work = work

    @contextmanager
    def __call__(self, todo: Iterator[list[str]], target: Target) -> Iterator[Iterator[Done]]:
        """Each shard in order. With a shard travels what is known of its own images."""
        shards = iter(lambda: list(chain.from_iterable(next(todo, []) for _ in range(CHUNKS))), [])
        given = ((paths, Target(target.spec, _of(paths, target))) for paths in shards)
        yield self._work.made(given, 1)


def _of(paths: list[str], target: Target) -> dict[str, Known]:
    return {path: target.known[path] for path in paths if path in target.known}

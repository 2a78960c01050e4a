"""Images sent to the gallery's own server, which embeds them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from vssl.images.decoding import DEFAULT_LIMITS
from vssl.sources.source import Source
from vssl_client.embedding.batches import MAX_BYTES, MAX_IMAGES, chunked
from vssl_client.embedding.pipeline import ordered
from vssl_client.filling.contract import Done, Failure, Target
from vssl_client.filling.describing import described
from vssl_client.folder.reading import ImageFile, Reader
from vssl_client.galleries.asked import Item
from vssl_client.galleries.blocking import Gallery
from vssl_gallery.images import typed


class SendThere:
    """A `Way`: files go to the gallery as they are."""

    def __init__(self, source: Source, gallery: Gallery) -> None:
        self.encoder_id: str | None = None
        self._gallery = gallery
        self._reader = Reader(source, DEFAULT_LIMITS.max_bytes)

    @contextmanager
    def __call__(self, todo: Iterator[list[str]], target: Target) -> Iterator[Iterator[Done]]:
        """Each chunk in order; each request is a write."""
        with ordered(lambda paths: self._sent(paths, target), todo, self._gallery.in_flight) as batches:
            yield batches

    def _sent(self, paths: list[str], target: Target) -> Done:
        failures: list[Failure] = []
        written = 0
        files = self._reader.read(paths)
        for batch in chunked(files, MAX_IMAGES, lambda file: len(file.data), MAX_BYTES):
            items = []
            for file in batch:
                one, reason = _item(file, target)
                if reason is None:
                    items.append(one)
                else:
                    failures.append((file.path, reason))
            added = self._gallery.put_images(items) if items else None
            for image in [] if added is None else added.images:
                if image.error is None:
                    written += 1
                else:
                    failures.append((image.id, image.error.reason))
        return Done(len(paths), written, failures)


def _item(file: ImageFile, target: Target) -> tuple[Item, str | None]:
    """A file as it is sent; and why it can't be, if so."""
    image = described(file, target.known.get(file.path, {}), target.spec)
    reason = image.unfit(target.spec) if file.problem is None else file.problem.reason
    if reason is not None:
        return Item(0, file.data), reason
    values = {name: typed(name, kind, image.fields.get(name)) for name, kind in target.spec.fields.items()}
    fields = {name: value for name, value in values.items() if value is not None}
    meta = None if image.meta is None else json.loads(image.meta)
    return Item(0, file.data, image.id, image.label, meta, fields), None

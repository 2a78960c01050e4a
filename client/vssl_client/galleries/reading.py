"""Image files read before they are embedded, here or at a server."""

import hashlib
from collections.abc import Sequence

from vssl.images.decoding import ImageError
from vssl_client.errors import ImageRejected
from vssl_client.galleries.answers import AddedImage
from vssl_client.galleries.asked import Item
from vssl_client.inputs import Snapshot, encoded, name_of


def read_items(items: Sequence[Item], max_bytes: int) -> tuple[list[bytes], list[AddedImage]]:
    """The bytes of each image, and its id; or why it can't be read."""
    images, added = [], []
    for item in items:
        error: ImageRejected | None = None
        try:
            data = encoded(item.image, max_bytes)
        except (ImageError, OSError) as problem:
            data, error = b"", rejected(problem, item.index, name_of(item.image))
        id = item.id if item.id is not None else hashlib.sha256(data).hexdigest()
        images.append(data)
        added.append(AddedImage(item.index, id, error=error))
    return images, added


def read_queries(images: Sequence[Snapshot], max_bytes: int) -> list[bytes]:
    """The bytes of each image.

    Raises:
        ImageRejected: one can't be read.
    """
    found = []
    for index, image in enumerate(images):
        try:
            found.append(encoded(image, max_bytes))
        except (ImageError, OSError) as error:
            raise rejected(error, index, name_of(image)) from error
    return found


def rejected(error: ImageError | OSError, index: int, name: str | None) -> ImageRejected:
    """Why an image can't be read."""
    if isinstance(error, ImageError):
        return ImageRejected(error.type, str(error), index, name)
    return ImageRejected("unreadable", error.strerror or str(error), index, name)

"""Batches of added images as one answer."""

from collections.abc import Sequence

from vssl_client.embedding.contract import OnError
from vssl_client.galleries.answers import Added


def joined(parts: Sequence[Added], on_error: OnError) -> Added:
    """What became of all images; those that failed are raised, kept, or left out.

    Raises:
        ImageRejected: the first image that failed, where `on_error` is `raise`.
    """
    images = [image for part in parts for image in part.images]
    versions = [part.version for part in parts if part.version is not None]
    wrong = next((image.error for image in images if image.error is not None), None)
    if wrong is not None and on_error == "raise":
        raise wrong
    kept = [image for image in images if image.error is None] if on_error == "skip" else images
    return Added(max(versions, default=None), kept)

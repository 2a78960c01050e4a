"""Images, or rows of a gallery, as queries to it."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vssl.bundle.default import default_bundle
from vssl.bundle.reading import open_bundle
from vssl.errors import UsageError
from vssl_client.embedding.batches import embed_each
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.errors import ImageRejected
from vssl_client.inputs import encoded
from vssl_client.results.result import EmbeddingResult
from vssl_gallery.gallery import Gallery
from vssl_gallery.queries import Queries


@dataclass(frozen=True)
class Asked:
    """Queries, and what people call each of them."""

    names: list[str]
    queries: Queries


def asked(gallery: Gallery, images: Sequence[str], ids: Sequence[str], bundle: Path | None) -> Asked:
    """Queries from image files, or from rows of the gallery.

    Raises:
        UsageError: there are none, or both.
        EncoderMismatch: the bundle is of another encoder than the gallery.
        ImageRejected: an image can't be embedded.
    """
    if bool(images) == bool(ids):
        raise UsageError("name images to look up, or rows of the gallery by --id")
    if ids:
        return Asked(list(ids), gallery.queries(ids))
    opened = open_bundle(bundle or default_bundle())
    gallery.check_encoder(opened.manifest.encoder_id)
    with closing(LocalEmbedder(opened)) as embedder:
        files = [encoded(Path(name)) for name in images]
        result = embed_each(embedder, files, bytes)
    return Asked(list(images), queries_of(result, files))


def queries_of(result: EmbeddingResult, files: Sequence[bytes]) -> Queries:
    """Embedded images as queries.

    Raises:
        ImageRejected: one of them has no embedding.
    """
    wrong: ImageRejected | None = next((error for error in result.errors if error is not None), None)
    if wrong is not None:
        raise wrong
    flags = result.flags or {}
    return Queries(
        result.embedding,
        np.asarray(result.uncertainty),
        result.variance,
        flags.get("ood"),
        flags.get("unfamiliar"),
        [hashlib.sha256(data).hexdigest() for data in files],
    )

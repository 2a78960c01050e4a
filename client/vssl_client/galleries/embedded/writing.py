"""Embedded images put into a gallery."""

from collections.abc import Sequence

from vssl_client.errors import ImageRejected
from vssl_client.galleries.answers import AddedImage, of
from vssl_client.galleries.asked import Item
from vssl_client.galleries.embedded.answering import infos_of_result
from vssl_client.results.result import EmbeddingResult
from vssl_gallery.gallery import Gallery
from vssl_gallery.images import Described, image_rows, picture


def write_images(
    gallery: Gallery,
    items: Sequence[Item],
    ids: Sequence[str],
    images: Sequence[bytes],
    result: EmbeddingResult,
    precision: str | None,
) -> tuple[int | None, list[AddedImage]]:
    """Write those that have an embedding and that the gallery can hold: the version, and what became of each."""
    every = [
        Described.of(data, id, item.label, item.meta, item.fields)
        for item, id, data in zip(items, ids, images, strict=True)
    ]
    unfit = [one.unfit(gallery.spec) for one in every]
    errors = [
        error or (ImageRejected("invalid_row", reason) if reason is not None else None)
        for error, reason in zip(result.errors, unfit, strict=True)
    ]
    good = [row for row, error in enumerate(errors) if error is None]
    version = None
    if good:
        pictures = [picture(images[row], gallery.spec.keep_thumbnails) for row in good]
        rows = image_rows([every[row] for row in good], pictures, result[good], gallery.spec, precision)
        version = int(gallery.add(rows).version)
    told = []
    for item, id, info, error in zip(items, ids, infos_of_result(result), errors, strict=True):
        if error is not None:
            error.index, error.name = item.index, id
        told.append(of(AddedImage, vars(info) if error is None else {}, index=item.index, id=id, error=error))
    return version, told

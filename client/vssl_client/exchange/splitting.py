"""A batch → requests within the limits that a server tells."""

from collections.abc import Sequence

from vssl.images.decoding import ImageError, Preprocessing, open_image, work
from vssl_client.results.model_info import ModelInfo

PART_BYTES = 256
"""More than a request holds for each image beside its bytes."""


def split(images: Sequence[bytes], model: ModelInfo) -> list[Sequence[bytes]]:
    """At least one encoded image → runs of images within the model's limits; an image over a limit goes alone."""
    how = model.preprocessing or Preprocessing(model.size)
    limits = (model.max_images, model.max_body_bytes, model.max_request_pixels)
    batches: list[Sequence[bytes]] = []
    begin = count = size = area = 0
    for at, image in enumerate(images):
        own = (1, len(image) + PART_BYTES, 0 if model.max_request_pixels is None else pixels(image, how))
        held = (count + own[0], size + own[1], area + own[2])
        if at > begin and any(limit is not None and has > limit for has, limit in zip(held, limits, strict=True)):
            batches.append(images[begin:at])
            begin, held = at, own
        count, size, area = held
    return [*batches, images[begin:]]


def pixels(image: bytes, preprocessing: Preprocessing) -> int:
    """Pixels that a server counts for an image, by its header; 0 if it is not an image."""
    try:
        with open_image(image) as opened:
            return work(opened, image, preprocessing)
    except ImageError:
        return 0

"""How many images go through a network at once, by the side of its pictures."""

MAX_BATCH = 128
"""Images in one call of ONNX Runtime, at most: a TensorRT engine has a largest batch."""
MAX_BATCH_PIXELS = 2**22
"""Pixels in one call of a network, at most: its activations take a hundred times their bytes."""
PART, PART_PIXELS = 16, 2**17
"""Images, and pixels, at most, that one core computes at once of a batch that is divided among the cores: few enough
for its caches."""


def batch_images(size: int, most: int = MAX_BATCH_PIXELS) -> int:
    """Images of `size` × `size` pixels that go through a network at once: a power of two, `MAX_BATCH` of small ones.

    They have about `most` pixels together, or less.
    """
    return 1 << min(MAX_BATCH, max(1, most // size**2)).bit_length() - 1


def part_images(size: int, images: int, among: int) -> int:
    """Images of `size` × `size` pixels in each part of a batch that so many cores share."""
    return max(1, min(PART, PART_PIXELS // size**2, -(-images // among)))


def bucket(images: int) -> int:
    """The least power of two that is at least a number of images; `MAX_BATCH` is one."""
    return 1 << (images - 1).bit_length()

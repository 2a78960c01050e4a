"""One file of every kind that must be refused, name → bytes. Pure: the same bytes at every call."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HUGE_SIDE = 30_000


def bad_files() -> dict[str, bytes]:
    """Files that no part of VSSL may embed, each for another reason."""
    return {
        "empty.jpg": b"",
        "text.jpg": b"This is a shopping list: bread, milk, two apples.\n",
        "truncated.jpg": truncated_jpeg(),
        "huge.png": huge_png(),
        "animated.gif": animated_gif(),
    }


REASONS = {
    "empty.jpg": "empty",
    "text.jpg": "not_an_image",
    "truncated.jpg": "damaged",
    "huge.png": "too_many_pixels",
    "animated.gif": "animated",
}
"""The `ImageError.type` that each of them is refused with."""


def truncated_jpeg() -> bytes:
    """The first half of a real JPEG: its header is whole, its pixels are not."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()[: len(file.getvalue()) // 2]


def huge_png() -> bytes:
    """A PNG of a few bytes whose header claims 30,000 × 30,000 pixels: decoding it would take 2.7 GB."""
    header = struct.pack(">IIBBBBB", HUGE_SIDE, HUGE_SIDE, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def animated_gif() -> bytes:
    """Two frames that differ."""
    frames = [Image.new("L", (16, 16), shade) for shade in (0, 255)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()

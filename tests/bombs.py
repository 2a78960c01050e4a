"""Small files that would cost a lot of memory or time to decode."""

import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.bad_files import HUGE_SIDE, huge_png
from tests.core.samples import encoded, heic, noise, raw_png, still_images


@cache
def bombs() -> dict[str, bytes]:
    """One or more in every format, name → file; none is over 400 kB, but `strips` (4 MB)."""
    return {
        **claims(),
        "png of white": white_png(),
        "tile": tiled_tiff(HUGE_SIDE, bytes(100_000_000)),
        "strips": many_strips(1_000_000),
        "scans": many_scans(side=8000, scans=500),
        "text": text_bomb(),
    }


def claims() -> dict[str, bytes]:
    """Files of a few hundred bytes whose headers claim 30,000 × 30,000 pixels, or the most that their format can."""
    still, side = still_images(), HUGE_SIDE
    jpeg, webp = bytearray(still["jpeg"]), bytearray(encoded(noise(8, 8), "WEBP", lossless=True))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", side, side)
    webp[21:25] = struct.pack("<I", 16_000 | 16_000 << 14)  # 14 bits each of width − 1 and height − 1: its most
    gif, frame = bytearray(still["gif"]), bytearray(still["gif"])
    gif[6:10] = struct.pack("<HH", side, side)
    start = frame.index(b",\0\0\0\0") + 5  # the picture's own size, beside the screen's
    frame[start : start + 4] = struct.pack("<HH", side, side)
    bmp = bytearray(still["bmp"])
    bmp[18:26] = struct.pack("<ii", side, side)
    tiff = encoded(noise(1, 1), "TIFF")
    for tag in (256, 257):
        tiff = tiff.replace(struct.pack("<HHII", tag, 4, 1, 1), struct.pack("<HHII", tag, 4, 1, side))
    avif, hevc = bytearray(still["avif"]), bytearray(heic(noise(64, 64)))
    for heif in (avif, hevc):
        start = heif.index(b"ispe") + 8
        heif[start : start + 8] = struct.pack(">II", 16_000, 16_000)
    ppm = f"P6 {side} {side} 255\n".encode()
    files = {
        "jpeg": jpeg,
        "webp": webp,
        "gif": gif,
        "gif frame": frame,
        "bmp": bmp,
        "tiff": tiff,
        "avif": avif,
        "heic": hevc,
    }
    return {"png": huge_png(), "ppm": ppm, **{name: bytes(data) for name, data in files.items()}}


def white_png() -> bytes:
    """A valid PNG of 30,000 × 30,000 pixels, a bit each: 2.7 GB as RGB."""
    return encoded(Image.new("1", (HUGE_SIDE, HUGE_SIDE), 1), "PNG")


def text_bomb() -> bytes:
    """A PNG whose comment of 100 kB unpacks to 100 MB."""
    packed = zlib.compress(bytes(100_000_000))
    return raw_png(np.zeros((8, 8, 1), np.uint16), (b"zTXt", b"Comment\0\0" + packed))


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG with one of its scans, about a hundred bytes, so many times more."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    start = data.index(b"\xff\xda", first + 2)
    stop = data.index(b"\xff\xda", start + 2)
    return data[:start] + data[start:stop] * scans + data[start:]


def many_strips(strips: int) -> bytes:
    """A grey TIFF one pixel wide and so many high, a strip each: a gigabyte of pillow's objects for four million."""
    tags = {257: (4, 1, strips), 278: (4, 1, 1), 273: (4, strips, None), 279: (4, strips, None)}
    return tiff({256: (4, 1, 1), 262: (3, 1, 1)} | tags, struct.pack("<I", 8) * strips)


def tiled_tiff(side: int, pixels: bytes = bytes(16 * 16 * 3), kind: int = 4, twice: int | None = None) -> bytes:
    """An RGB TIFF of 8 × 8 pixels in one packed tile of `side` × `side`, which is decoded whole."""
    packed = zlib.compress(pixels)
    tags = {256: (4, 1, 8), 257: (4, 1, 8), 259: (3, 1, 8), 262: (3, 1, 2), 277: (3, 1, 3)}
    size = [(322, (kind, 1, side)), (323, (kind, 1, side))]
    if twice is not None:
        size += [(322, (kind, 1, twice)), (323, (kind, 1, twice))]
    return tiff({**tags, 324: (4, 1, None), 325: (4, 1, len(packed))}, packed, size)


def tiff(
    tags: dict[int, tuple[int, int, int | None]],
    data: bytes,
    more: list[tuple[int, tuple[int, int, int]]] | None = None,
) -> bytes:
    """A little-endian TIFF of tag → (type, count, value), 8 bits a sample; a value of None is the place of `data`."""
    entries = sorted([*tags.items(), (258, (3, 1, 8)), *(more or [])])
    place = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(
        struct.pack("<HHI", tag, kind, count) + struct.pack("<I", place if value is None else value)
        for tag, (kind, count, value) in entries
    )
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + bytes(4) + data

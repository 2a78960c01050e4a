"""Encoded images that the tests of core make, and what pillow can't write itself."""

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image

from tests.bad_files import png_chunk
from tests.conftest import FASHION

Pixels = npt.NDArray[np.uint8]


def encoded(image: Image.Image | Pixels, format: str, **options: Any) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def heic(*images: Image.Image | Pixels, exif: bytes | None = None) -> bytes:
    """The images as one file, without loss; `Image.open` knows HEIC only where something has registered it."""
    file, made = io.BytesIO(), pillow_heif.HeifFile()
    for image in images:
        made.add_from_pillow(image if isinstance(image, Image.Image) else Image.fromarray(image))
    if exif is not None:
        made[0].info["exif"] = exif
    made.save(file, quality=-1, chroma=444, matrix_coefficients=0)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """An image [height, width, 3] whose every pixel differs: nothing can be mixed up unseen."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fashion(count: int, side: int = 28) -> Pixels:
    """Real images [count, side, side, 3], of ten classes."""
    with zipfile.ZipFile(FASHION) as archive:
        names = [name for name in archive.namelist() if name.startswith("test/")]
        chosen = [names[i * len(names) // count] for i in range(count)]
        images = [Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((side, side)) for name in chosen]
        return np.stack([np.asarray(image) for image in images])


def still_images() -> dict[str, bytes]:
    """One real image in every format that is decoded, name → file."""
    image = Image.fromarray(fashion(1)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "jpeg": encoded(image, "JPEG", exif=exif.tobytes()),
        "progressive": encoded(image, "JPEG", progressive=True),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(image, "PNG", exif=exif.tobytes()),
        "palette": encoded(image.quantize(16), "PNG", transparency=0),
        "webp": encoded(image, "WEBP", exif=exif.tobytes()),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF"),
        "deflated": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "ppm": encoded(image, "PPM"),
        "pgm": raw_pgm(np.arange(64, dtype=np.uint16).reshape(8, 8), 1023),
        "avif": encoded(image, "AVIF"),
    }


def animations() -> dict[str, bytes]:
    """Files of two frames that differ."""
    frames = [Image.fromarray(frame) for frame in fashion(2)]
    return {
        format: encoded(frames[0], format, save_all=True, append_images=frames[1:])
        for format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF")
    }


def raw_png(samples: npt.NDArray[np.uint16], extra: tuple[bytes, bytes] | None = None) -> bytes:
    """A 16-bit PNG of samples [H, W, 1…4]; pillow writes only grey ones."""
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [(b"IHDR", header), *([extra] if extra else []), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def raw_pgm(samples: npt.NDArray[np.uint16], most: int) -> bytes:
    """A binary PGM of samples [H, W] in 0 … most."""
    height, width = samples.shape
    return f"P5 {width} {height} {most}\n".encode() + samples.astype(">u2").tobytes()


def raw_tiff(width: int, height: int, data: bytes, bits: tuple[int, ...], photometric: int) -> bytes:
    """A little-endian grey TIFF in one strip; photometric 0: zero is white; a second sample is premultiplied alpha."""
    start = 8 + 2 + 10 * 12 + 4
    sizes = {256: (width,), 257: (height,), 258: bits, 262: (photometric,), 273: (start,), 277: (len(bits),)}
    tags = {**sizes, 278: (height,), 279: (len(data) & 0xFFFF, len(data) >> 16), 338: (1,), 339: (1,)}
    if len(bits) == 1:
        tags[338] = ()
    entries = b"".join(
        # The byte count is one 32-bit number, the others are 16-bit ones; all fit into their entry's four bytes.
        struct.pack("<HHI", tag, 4 if tag == 279 else 3, 1 if tag == 279 else len(values))
        + struct.pack("<2H", *(*values, 0, 0)[:2])
        for tag, values in tags.items()
    )
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0) + data

"""Encoded image → uint8 pixels: the only implementation, for training, serving, the client and Triton alike.

This file needs numpy and pillow alone and imports nothing of ours, so that it can be copied beside a Triton model.

Order: guards on bytes, format, frames and pixels (before any pixel is decoded) → decode → EXIF rotation → RGB →
one antialiased resize of the centred square → uint8. ICC profiles are not applied.
"""

import contextlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is decoded. An explicit list: pillow would also hand EPS files to an external interpreter."""

SLOW_BYTES = 4 * 2**20
"""The most of what pillow decodes in Python, about 1 MB/s: run-length BMP, PGM and PPM as text or of unusual depth."""

MOST_SCANS = 16
"""Times that a progressive JPEG of `Limits.max_pixels` may be gone over: ten are usual, a hundred bytes may be one."""

MOST_STRIPS = 2**16
"""Strips or tiles of a TIFF: pillow makes objects of 300 bytes of each, and lets no other thread run meanwhile."""

JPEG_SIGNATURE = b"\xff\xd8"
SCAN = 0xDA
MOST_SEGMENTS = 4096
"""Segments, and bytes that fill up between them, before a JPEG's first scan; 32 MB of metadata are 500 segments."""
ALONE = frozenset(range(0xD0, 0xDA)) | {0x00, 0x01}
"""JPEG's markers without a segment behind them."""

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

ImageErrorType = Literal[
    "empty", "too_many_bytes", "not_an_image", "too_many_pixels", "animated", "unsupported_mode", "damaged"
]


class ImageError(ValueError):
    """An image that was refused. `type` is a stable word to branch on, the message says why."""

    def __init__(self, type: ImageErrorType, message: str) -> None:
        super().__init__(type, message)  # both, so that it survives pickling
        self.type: ImageErrorType = type

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding: encoded size in bytes, and width × height in pixels."""

    max_bytes: int = 32 * 2**20
    max_pixels: int = 64_000_000


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes `size` × `size` pixels.

    `crop` is the part of the shorter side that the centred square keeps (0 < crop ≤ 1); 0.875 is the usual
    "resize to 256, crop 224". Resize and crop are one resampling of that square, antialiased.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # the manifest embeds this class

    size: int
    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"preprocessing size {self.size} is outside 1 … 4096")
        if not 0 < self.crop <= 1:
            raise ValueError(f"preprocessing crop {self.crop} is outside (0, 1]")
        if self.interpolation not in RESAMPLING:
            raise ValueError(
                f"preprocessing interpolation {self.interpolation!r} is not one of {', '.join(RESAMPLING)}"
            )


DEFAULT_LIMITS = Limits()


def decode(data: bytes, preprocessing: Preprocessing, limits: Limits = DEFAULT_LIMITS) -> npt.NDArray[np.uint8]:
    """Decode one encoded image to uint8 [size, size, 3].

    Raises:
        ImageError: for anything that is not one still image within the limits.
    """
    with open_guarded(data, limits) as image:
        return to_pixels(image, preprocessing)


def open_guarded(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Read the header and refuse by it what is not one still image within the limits; no pixel is decoded.

    Raises:
        ImageError: what the header or the size says against it.
    """
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{len(data):,} bytes are over the limit of {limits.max_bytes:,}")
    if data[:4] in TiffImagePlugin.PREFIXES:
        check_tiff(data, limits)
    elif data[:2] == JPEG_SIGNATURE and len(data) > MOST_SEGMENTS:  # fewer bytes hold fewer segments
        check_jpeg(data)
    image = open_image(data)
    check_header(image, data, limits)
    return image


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Decode an image that `open_guarded` gave to uint8 [size, size, 3].

    Raises:
        ImageError: the data behind the header are damaged, or can't be turned into colours.
    """
    try:
        image.load()
        rotate(image)
        return fit(to_rgb(image), preprocessing)
    except ImageError:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever the broken bytes lead to: OSError, SyntaxError, struct.error, …
        raise ImageError("damaged", f"the {image.format} data are damaged or cut short: {error}") from error


def check_jpeg(data: bytes) -> None:
    """Refuse a JPEG whose header has too many segments: pillow goes over each in Python."""
    if sum(1 for _ in jpeg_segments(data)) == MOST_SEGMENTS:
        raise ImageError(
            "damaged", f"the JPEG's header has over {MOST_SEGMENTS:,} segments and fill bytes; save it anew"
        )


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment and fill byte before the first scan's data; at most `MOST_SEGMENTS`."""
    place = 2
    for _ in range(MOST_SEGMENTS):
        head = data[place : place + 4]
        if len(head) < 4 or head[0] != 0xFF:
            return
        marker, stop = head[1], place + 2 + int.from_bytes(head[2:])
        if marker == 0xFF or marker in ALONE:  # a fill byte, or a marker without a segment
            stop = place + (1 if marker == 0xFF else 2)
        yield marker, place, stop
        if marker == SCAN:
            return
        place = stop


def open_image(data: bytes) -> Image.Image:
    """Read the header only; no pixel is decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError("not_an_image", f"the data are none of {', '.join(FORMATS)} that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except Exception as error:
        raise ImageError("damaged", f"the header is damaged: {error}") from error
    if len(data) > SLOW_BYTES and decodes_in_python(image):
        raise ImageError(
            "too_many_bytes",
            f"{len(data):,} bytes of {image.format} in an encoding that is slow to read are over the limit of "
            f"{SLOW_BYTES:,}; save it as PNG",
        )
    return image


def decodes_in_python(image: Image.Image) -> bool:
    """Whether pillow decodes this image in Python, a hundred times slower than in C."""
    return any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))


def count_scans(image: Image.Image, data: bytes) -> int:
    """How often the pixels are gone over: each scan of a progressive JPEG draws all of them."""
    return max(1, data.count(b"\xff\xda")) if "progressive" in image.info else 1


def check_tiff(data: bytes, limits: Limits) -> None:
    """Refuse a TIFF by its first directory: too many strips or tiles, or tiles that are too large.

    A tile is decoded whole, however little of it the image shows. What can't be read here pillow can't read either.
    """
    order, large = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    entry = struct.Struct(order + ("HHQ8s" if large else "HHI4s"))
    try:
        (start,) = struct.unpack_from(order + ("Q" if large else "I"), data, 8 if large else 4)
        (entries,) = struct.unpack_from(order + ("Q" if large else "H"), data, start)
    except struct.error:
        return
    start += 8 if large else 2
    entries = min(entries, max(0, len(data) - start) // entry.size)
    sides = {TiffImagePlugin.TILEWIDTH: 0, TiffImagePlugin.TILELENGTH: 0}
    for tag, kind, count, value in entry.iter_unpack(data[start : start + entries * entry.size]):
        if tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS) and count > MOST_STRIPS:
            message = f"the TIFF has {count:,} strips or tiles, over the limit of {MOST_STRIPS:,}; save it as PNG"
            raise ImageError("too_many_bytes", message)
        if tag in sides:
            if count != 1 or kind not in (3, 4):  # 16 or 32 bits without a sign; a tag may be there twice
                raise ImageError("damaged", "the TIFF's tiles have no valid size")
            sides[tag] = max(sides[tag], struct.unpack_from(order + " HI"[kind - 2], value)[0])
    width, height = sides.values()
    if width * height > limits.max_pixels:
        message = f"tiles of {width:,} × {height:,} pixels are over the limit of {limits.max_pixels:,} pixels"
        raise ImageError("too_many_pixels", message)


def check_header(image: Image.Image, data: bytes, limits: Limits) -> None:
    """Refuse by what the header says: too many pixels, or too often; more than one frame."""
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels", f"{width:,} × {height:,} pixels are over the limit of {limits.max_pixels:,} pixels"
        )
    scans = count_scans(image, data)
    if width * height * scans > limits.max_pixels * MOST_SCANS:
        message = (
            f"the {image.format} draws {width:,} × {height:,} pixels in {scans:,} scans; save it with ten or fewer"
        )
        raise ImageError("too_many_pixels", message)
    try:
        # A phone's JPEG may carry a preview or depth map as further frames (MPO): its first frame is the photograph.
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception as error:
        raise ImageError("damaged", f"the frames of the {image.format} can't be counted: {error}") from error
    if animated:
        raise ImageError("animated", f"the {image.format} holds more than one frame; send one still image")


def rotate(image: Image.Image) -> None:
    """Apply the EXIF orientation in place. Broken EXIF does not spoil a good picture: it counts as upright."""
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode → RGB: alpha and transparent palettes over white, 16-bit scaled to 8, the rest by pillow."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return eight_bits(image).convert("RGB")
    if image.mode in ("I", "F", "LAB"):
        raise ImageError("unsupported_mode", f"{image.format} pixels of mode {image.mode} can't be turned into colours")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode == "La":  # pillow has no way from here to RGBA
            image = image.convert("LA")
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey → 8 bits, v → round(v / 257). Pillow leaves it to us that a TIFF's may be 12 bits, or inverted."""
    tags = getattr(image, "tag_v2", {})
    most = 2 ** tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0] - 1
    levels = ((510 * np.arange(most + 1) + most) // (2 * most)).astype(np.uint8)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        levels = levels[::-1]
    return Image.fromarray(levels[np.asarray(image)])


def fit(image: Image.Image, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Resize the centred square of an RGB image to uint8 [size, size, 3]."""
    width, height = image.size
    side = min(width, height) * preprocessing.crop
    left, top = (width - side) / 2, (height - side) / 2
    size = preprocessing.size
    square = image.resize(
        (size, size), RESAMPLING[preprocessing.interpolation], box=(left, top, left + side, top + side)
    )
    return np.asarray(square)

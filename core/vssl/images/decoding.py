"""Encoded image → uint8 pixels: the only implementation, for training, serving, the client and Triton alike.

This module is over 300 lines for a reason: it is copied beside Triton models. So it stays one file, needs numpy and
pillow alone, and imports nothing of ours.

Order: guards on bytes, format, frames and pixels (before any pixel is decoded) → decode → EXIF rotation → RGB →
one antialiased resize of a centred part → uint8. ICC profiles are not applied.
"""

import contextlib
import hashlib
import io
import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, TextIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Formats that are decoded. The list is explicit because pillow would hand EPS files to an external interpreter."""

SLOW_BYTES = 4 * 2**20
"""Limit for what pillow decodes in Python at about 1 MB/s: run-length BMP, PGM and PPM as text or of unusual depth."""

MAX_SCANS = 16
"""Scans of a progressive JPEG of `Limits.max_pixels`, at most: ten are usual, and a hundred bytes can make one."""

USUAL_SCANS = 10

MAX_STRIPS = 2**16
"""Strips or tiles of a TIFF, at most: pillow makes an object of 300 bytes of each and blocks all other threads."""

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
"""Of files that a decoder of HEVC reads. The package for them, pillow-heif, is optional."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8"
JPEG_SCAN = 0xDA
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG's markers of a frame, which names the components. The markers left out are tables."""
JPEG_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
JPEG_OF_FREQUENCIES = JPEG_SEQUENTIAL | {0xC2, 0xCA}
"""Of them, those of frames that can be drawn smaller; the last two are progressive."""
JPEG_ALONE = frozenset(range(0xD0, 0xDA)) | {0x00, 0x01}
"""JPEG's markers without a segment behind them."""
FILLS = (b"\x00", b"\x55", b"\xaa", b"\xfe", bytes(range(0xC5, 0x20, -7)), bytes(range(0x39, 0xF0, 11)))
"""Patterns to try in place of a JPEG's end: if pixels are missing, not all of them give the same picture."""
SIGNATURES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(PNG_SIGNATURE),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(b"|".join(map(re.escape, TiffImagePlugin.PREFIXES))),
    "AVIF": re.compile(rb"....ftypavi[fs]", re.DOTALL),
}
"""Unmistakable signatures. BMP and PPM are left out: they begin with two letters, as a text may."""

MAX_SEGMENTS = 4096
"""Segments, and bytes between them, before a JPEG's first scan, at most; 32 MB of metadata are 500 segments."""
MAX_CHUNKS = 2**16
"""Chunks of a PNG, at most; libpng writes one for each 8 kB."""
MAX_METADATA = 2**16
"""Bytes of a text, at most, that is searched for the orientation after pillow refused the picture at first."""
MAX_BRANDS = 64
"""Brands at the head of a HEIF file that are looked at."""
MAX_PAGES = 32
"""Directories of a TIFF, at most: a page with its overviews and masks has about ten."""
MAX_NUMBERS = 16
TIFF_PREDICTED = frozenset({5, 8, 32946, 34925, 50000})
TIFF_UNPREDICTED = frozenset({1, 2, 3, 4, 6, 7, 32771, 32773})
"""Compressions of a TIFF that are read. With a predictor or without: LZW, deflate, LZMA, Zstandard. Without: plain,
CCITT, JPEG, PackBits.
"""
TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of whole numbers without a sign."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation → the turn that sets the picture upright."""

LEFT_FROM_RIGHT = frozenset(TURNS[each] for each in (2, 3, 7, 8))
TOP_FROM_BOTTOM = frozenset(TURNS[each] for each in (3, 4, 6, 7))
"""The turns by which a side is counted from its other end."""

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FITS = ("crop", "crop-round", "crop-floor", "squash", "pad")
ROUNDED: dict[str, Callable[[float], int]] = {"crop-round": round, "crop-floor": math.floor}
"""How half a pixel is rounded where the centre begins: to even numbers, or down."""
DECODERS = ("exact", "scaled-1")
MARGIN = 2
GREY = (128, 128, 128)
"""What `pad` puts beside the image."""

ImageErrorType = Literal[
    "empty",
    "too_many_bytes",
    "not_an_image",
    "too_many_pixels",
    "animated",
    "unsupported_format",
    "unsupported_mode",
    "damaged",
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
    """Larger images are refused before decoding: encoded size in bytes, and width × height in pixels."""

    max_bytes: int = 32 * 2**20
    max_pixels: int = 64_000_000


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes `size` × `size` pixels: one antialiased resampling of a centred part of it.

    `fit` names the part. `crop`: the square of `crop` × the shorter side; 0.875 is the usual "resize to 256, crop 224".
    `crop-round` and `crop-floor` are the same as torchvision and timm, or transformers, round it: see `whole_pixels`.
    `squash`: `crop` × each side, without regard to the shape. `pad`: the square of `crop` × the longer side; what lies
    beyond the image is mid grey, which is near zero once a network has normalised it.

    `decoder` says which pixels the resampling begins with: `exact`, all of them, or `scaled-1`, see `reduction`. A
    network goes on with the one that it was trained with.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # the manifest embeds this class

    size: int
    crop: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    fit: Literal["crop", "crop-round", "crop-floor", "squash", "pad"] = "crop"
    decoder: Literal["exact", "scaled-1"] = "exact"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"preprocessing size {self.size} is outside 1 … 4096")
        if not 0 < self.crop <= 1:
            raise ValueError(f"preprocessing crop {self.crop} is outside (0, 1]")
        for field, known in (("interpolation", tuple(RESAMPLING)), ("fit", FITS), ("decoder", DECODERS)):
            if getattr(self, field) not in known:
                raise ValueError(f"preprocessing {field} {getattr(self, field)!r} is not one of {', '.join(known)}")


DEFAULT_LIMITS = Limits()


def decode(data: bytes, preprocessing: Preprocessing, limits: Limits = DEFAULT_LIMITS) -> npt.NDArray[np.uint8]:
    """Decode one encoded image to uint8 [size, size, 3].

    Raises:
        ImageError: for anything that is not one still image within the limits.
    """
    with open_guarded(data, limits) as image:
        return to_pixels(image, preprocessing)


def open_guarded(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Read the header, and refuse anything but one still image within the limits. No pixel is decoded.

    Raises:
        ImageError: the header or the size is reason to refuse.
    """
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{len(data):,} bytes are over the limit of {limits.max_bytes:,}")
    page = choose_page(data, limits) if data[:4] in TiffImagePlugin.PREFIXES else 0
    if len(data) > MAX_SEGMENTS:  # fewer bytes hold fewer segments
        check_segments(data)
    try:
        image = open_image(data)
    except ImageError as error:
        plain = without_metadata(data)
        if error.type != "damaged" or plain == data:
            raise
        image = open_image(plain)
    check_header(image, data, limits, page)
    return image


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Decode an image that `open_guarded` gave to uint8 [size, size, 3].

    Raises:
        ImageError: the data behind the header are damaged, or can't be turned into colours.
    """
    whole, scale = image.size, drawn_scale(image, preprocessing)
    rgb, turn = load(image, scale)
    if scale == 1:
        whole = rgb.size  # a header may say something else
        scale = reduction(*whole, preprocessing)
        if scale == 1:
            return padded(fit(turned(rgb, turn), preprocessing), preprocessing.size)
        rgb = rgb.reduce(scale)
    # Turned at the end: the last row and column may stand for less than a block, so the middle is not the middle.
    square = turned(fit(rgb, preprocessing, (whole[0] / scale, whole[1] / scale), turn), turn)
    return padded(square, preprocessing.size)


def load_rgb(image: Image.Image) -> Image.Image:
    """Decode an image that pillow has opened: upright, in RGB. Damaged metadata alone does no harm.

    The image itself is only loaded, not changed.

    Raises:
        ImageError: the data behind the header are damaged, or can't be turned into colours.
    """
    return turned(*load(image))


def load(image: Image.Image, scale: int = 1) -> tuple[Image.Image, Image.Transpose | None]:
    """Decode an image to RGB, a JPEG at 1 / `scale` of its sides; and the turn that sets it upright.

    Raises:
        ImageError: the data behind the header are damaged, or can't be turned into colours.
    """
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None  # pillow drops it after loading
    try:
        with quiet:
            try:
                draw_smaller(image, scale)
                image.load()
            except Exception:
                if not isinstance(file, io.BytesIO) or (repaired := repair(image, file.getvalue(), scale)) is None:
                    raise
                image = repaired
            return to_rgb(image), turn_of(image)
    except ImageError:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever the broken bytes lead to: OSError, SyntaxError, struct.error, …
        raise ImageError("damaged", f"the {image.format} data are damaged or cut short: {error}") from error


# Large images drawn smaller -------------------------------------------------------------------------------------------


def reduction(width: int, height: int, preprocessing: Preprocessing) -> int:
    """How many times smaller an image is made before the resampling: 1, 2, 4 or 8; 1 for the decoder `exact`.

    `scaled-1`: the most that leaves the part to be resampled `MARGIN` times as wide and high as the result, so that the
    resampling still averages. A JPEG's decoder draws it so small, by fewer frequencies of each block, in a fraction of
    the time and the memory. Any other image is averaged over blocks of that many pixels.
    """
    if preprocessing.decoder == "exact":
        return 1
    # No more than a side: a narrow strip that is padded would vanish.
    most = min(min(part(width, height, preprocessing)) / (MARGIN * preprocessing.size), width, height)
    return next((scale for scale in (8, 4, 2) if scale <= most), 1)


def drawn_scale(image: Image.Image, preprocessing: Preprocessing) -> int:
    """How many times smaller the image's own decoder draws it."""
    scale = reduction(*image.size, preprocessing)
    return scale if scale > 1 and draws_smaller(image) else 1


def draws_smaller(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet is a JPEG of blocks of frequencies; a lossless one has none."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not isinstance(image.fp, io.BytesIO):
        return False
    data = image.fp.getvalue()
    return any(marker in JPEG_OF_FREQUENCIES for marker, _, _ in jpeg_segments(data))


def in_one_scan(data: bytes) -> bool:
    """Whether a JPEG's first scan has all of its components and frequencies; else its decoder holds them to the end."""
    components = start = 0
    for marker, start, end in jpeg_segments(data):
        if marker in JPEG_FRAMES:
            components = data[start + 9] if marker in JPEG_SEQUENTIAL and end > start + 9 else 0
    return data[start + 4 : start + 5] == bytes([components])


def draw_smaller(image: Image.Image, scale: int) -> None:
    """Have a JPEG's decoder draw 1 / `scale` of its sides, rounded up."""
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))


def work(image: Image.Image, data: bytes, preprocessing: Preprocessing) -> int:
    """What it takes to decode an image, in pixels drawn: the measure of time and memory by which work is admitted.

    A JPEG drawn at half its sides takes half of that, and one drawn smaller still a third: it is read to its end all
    the same. One of many scans draws its pixels more often than is usual.
    """
    pixels = image.width * image.height * -(-count_scans(image, data) // USUAL_SCANS)
    scale = drawn_scale(image, preprocessing)
    return -(-pixels // min(scale, 3)) if scale > 1 and in_one_scan(data) else pixels


def open_image(data: bytes) -> Image.Image:
    """Read the header only; no pixel is decoded."""
    try:
        with quiet:
            image = open_heic(data) if is_heic(data) else Image.open(io.BytesIO(data), formats=FORMATS)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise unreadable(data) from None
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


def is_heic(data: bytes) -> bool:
    """Whether the data begin as a file of the HEIF family does, and say that they hold HEVC."""
    if data[4:8] != b"ftyp":
        return False
    head = data[8 : min(int.from_bytes(data[:4]), 8 + 4 * MAX_BRANDS)]
    return any(head[place : place + 4] in HEIC_BRANDS for place in range(0, len(head), 4))


def open_heic(data: bytes) -> Image.Image:
    """Read the header of a HEIC file. Its library turns it upright, and refuses larger pixels than the header says."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        message = "HEIC is read with pillow-heif, which is not installed: pip install 'vssl[heif]'; or save it as JPEG"
        raise ImageError("unsupported_format", message) from None
    image: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    return image


def unreadable(data: bytes) -> ImageError:
    """The reason why pillow can't identify the data, by the signature of their format."""
    if data[:4] in TiffImagePlugin.PREFIXES:
        layout = next(directories(data), Directory())
        if layout.get(TiffImagePlugin.IMAGEWIDTH) and layout.get(TiffImagePlugin.IMAGELENGTH):
            return ImageError("unsupported_mode", f"{described(layout)} can't be read; save it as 8-bit RGB or as PNG")
    for format, signature in SIGNATURES.items():
        if signature.match(data):
            return ImageError("damaged", f"the header of the {format} is damaged or cut short")
    return ImageError("not_an_image", f"the data are none of {', '.join(FORMATS)}, HEIC that can be read")


class _Quiet(threading.local):
    """Hides pillow's warnings in this thread: they name pillow's own files, not the image, and concern metadata alone.
    `warnings.catch_warnings` would change the filters of all other threads.
    """

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


quiet = _Quiet()
_show_others = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if not quiet.depth:
        _show_others(message, category, filename, lineno, file, line)


warnings.showwarning = _show_warning


# Damage that changes no pixel ---------------------------------------------------------------------------------------


def without_metadata(data: bytes) -> bytes:
    """A PNG or JPEG without the parts that no pixel depends on; anything else unchanged.

    Pillow unpacks comments and colour profiles, and refuses the whole picture if one is broken.

    Raises:
        ImageError: it is an animation.
    """
    if data.startswith(PNG_SIGNATURE):
        chunks = list(png_chunks(data))
        rest = chunks[-1][1] if chunks else len(PNG_SIGNATURE)
        kept = [data[start:stop] for start, stop in chunks if matters(data, start)]
        return b"".join([PNG_SIGNATURE, *kept, data[rest:]])
    if data[:2] != JPEG_SIGNATURE:
        return data
    parts, end = [data[:2]], 2
    for marker, start, end in jpeg_segments(data):
        body = data[start + 4 : end]
        least = {0xE0: 14, 0xE1: 0, 0xEE: 12}.get(marker)  # JFIF, EXIF and XMP, Adobe: libjpeg ignores shorter ones
        if marker == 0xFE or (marker in range(0xE0, 0xF0) and (least is None or len(body) < least)):
            continue
        parts.append(data[start:end])
    return b"".join([*parts, data[end:]])


def matters(data: bytes, start: int) -> bool:
    """Whether a PNG's pixels or orientation depend on a chunk. A broken optional chunk does not count.

    Raises:
        ImageError: the chunk makes the PNG an animation.
    """
    length, kind = struct.unpack_from(">I4s", data, start)
    if not kind[0] & 0x20 or kind == b"tRNS":  # critical ones begin with a capital letter
        return True
    body = data[start + 8 : start + 8 + length]
    if zlib.crc32(kind + body) != int.from_bytes(data[start + 8 + length : start + 12 + length]):
        return False
    if kind == b"acTL" and length == 8 and int.from_bytes(body[:4]) > 1:
        raise ImageError("animated", "the PNG holds more than one frame; send one still image")
    xmp = kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0\0") and length < MAX_METADATA
    return kind == b"eXIf" or xmp


def repair(image: Image.Image, data: bytes, scale: int = 1) -> Image.Image | None:
    """The image decoded although pillow refused it, at 1 / `scale`, if the damage changes no pixel, else None."""
    if image.format == "PNG":
        plain = without_metadata(data)
        if plain == data:
            return None
        again = open_image(plain)
        again.load()
        return again
    if image.format not in ("JPEG", "MPO") or not all_scans(data):
        return None
    # Only the end marker may be missing. Then the decoder uses no bit of what we put in its place, and all fills give
    # one picture. A run is longer than a block of pixels, because an incomplete block is left out. The next restarts
    # come between the runs.
    body = data.removesuffix(b"\xff")
    _, last = max((body.rfind(bytes([0xFF, 0xD0 + k])), k) for k in range(8))
    drawn = set[bytes]()
    for fill in FILLS:
        runs = [(fill * 4096)[:4096] + bytes([0xFF, 0xD0 + (last + k) % 8]) for k in range(1, 9)]
        again = open_image(b"".join([body, *runs, b"\xff\xd9"]))
        draw_smaller(again, scale)
        again.load()
        drawn.add(hashlib.sha256(again.tobytes()).digest())  # hashes, not pixels: a large image would be held six times
        if len(drawn) > 1:
            return None
    return again


def all_scans(data: bytes) -> bool:
    """Whether a JPEG's scans draw all 64 coefficients of all its components to the last bit."""
    missing: set[tuple[int, int]] = set()
    first = 0
    for marker, start, _ in jpeg_segments(data):
        if marker in JPEG_FRAMES:
            missing = {(data[start + 10 + 3 * i], k) for i in range(data[start + 9]) for k in range(64)}
        first = start
    while (first := data.find(b"\xff\xda", first)) >= 0:
        head = data[first + 4 : first + 4 + 1 + 8 + 3]
        if not head or len(head) < 1 + 2 * head[0] + 3:
            return False
        low, high, depth = head[1 + 2 * head[0] :][:3]
        if not depth & 15:
            missing -= {(head[1 + 2 * i], k) for i in range(head[0]) for k in range(low, high + 1)}
        first += 2
    return not missing


def check_segments(data: bytes) -> None:
    """Refuse a JPEG or PNG of too many segments or chunks: pillow parses each in Python."""
    if data[:2] == JPEG_SIGNATURE and sum(1 for _ in jpeg_segments(data)) == MAX_SEGMENTS:
        raise ImageError("damaged", f"the JPEG's header has over {MAX_SEGMENTS:,} segments and fill bytes")
    if data[:8] == PNG_SIGNATURE and len(data) > 12 * MAX_CHUNKS and sum(1 for _ in png_chunks(data)) == MAX_CHUNKS:
        raise ImageError("too_many_bytes", f"the PNG has over {MAX_CHUNKS:,} chunks; save it anew")


def png_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each complete chunk of a PNG, at most `MAX_CHUNKS`."""
    place = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if place + 12 > len(data):
            return
        stop = place + 12 + int.from_bytes(data[place : place + 4])
        yield place, stop
        place = stop


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the first scan's data; a byte between them has the marker 0xFF.

    At most `MAX_SEGMENTS` of both.
    """
    place = 2
    for _ in range(MAX_SEGMENTS):
        head = data[place : place + 4]
        if len(head) < 4:
            return
        marker, stop = head[1], place + 2 + int.from_bytes(head[2:])
        if head[0] != 0xFF or marker == 0xFF:
            marker, stop = 0xFF, place + 1
        elif marker in JPEG_ALONE:
            stop = place + 2
        yield marker, place, stop
        if marker == JPEG_SCAN:
            return
        place = stop


def decodes_in_python(image: Image.Image) -> bool:
    """Whether pillow decodes this image in Python, a hundred times slower than in C."""
    return any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))


def count_scans(image: Image.Image, data: bytes) -> int:
    """How often the pixels are drawn: once by each scan of a progressive JPEG."""
    return max(1, data.count(b"\xff\xda")) if "progressive" in image.info else 1


# TIFF -----------------------------------------------------------------------------------------------------------------


class Directory(dict[int, tuple[int, ...]]):
    """A page of a TIFF: tag → its numbers, for tags of up to `MAX_NUMBERS` whole numbers."""


def choose_page(data: bytes, limits: Limits) -> int:
    """Number of the one page of a TIFF that is no thumbnail, overview or mask of another.

    Raises:
        ImageError: it has several; or a page up to it has too many strips or tiles, tiles that are too large, or
            samples that pillow would get wrong. Pillow can't read what this function can't read.
    """
    pages = []
    for number, page in enumerate(directories(data)):
        check_tiles(page, limits)
        if not page.get(254, (0,))[0] & 5 and page.get(255) != (2,):
            pages.append((number, page))
        if len(pages) > 1 or number == MAX_PAGES:
            raise ImageError("animated", "the TIFF holds more than one page; send one still image")
    number, page = pages[0] if pages else (0, Directory())
    if not is_read_right(page):
        raise ImageError("unsupported_mode", f"{described(page)} can't be read; save it as 8-bit RGB or as PNG")
    return number


def is_read_right(page: Directory) -> bool:
    """Whether pillow and libtiff read a page right, or fail with an error.

    In a sweep against other writers they took signed numbers for unsigned, mixed up planes, and ignored a predictor.
    """
    compression = page.get(TiffImagePlugin.COMPRESSION, (1,))[0]
    photometric = page.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, (0,))[0]
    if any(number not in (1, 4) for number in page.get(TiffImagePlugin.SAMPLEFORMAT, (1,))):  # 4: undefined
        return False
    grey_and_more = photometric in (0, 1) and page.get(TiffImagePlugin.SAMPLESPERPIXEL, (1,))[0] > 1
    if page.get(TiffImagePlugin.PLANAR_CONFIGURATION) == (2,) and (photometric == 6 or grey_and_more):
        return False
    predicted = page.get(TiffImagePlugin.PREDICTOR, (1,)) != (1,)
    return compression in (TIFF_PREDICTED if predicted else TIFF_PREDICTED | TIFF_UNPREDICTED)


def directories(data: bytes) -> Iterator[Directory]:
    """The pages of a TIFF as far as they can be read. The offsets of strips or tiles are replaced by their count.

    Raises:
        ImageError: the size of a tile is encoded in a way that pillow may read differently.
    """
    order, large = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    offset = order + ("Q" if large else "I")
    entry = struct.Struct(order + ("HHQ8s" if large else "HHI4s"))
    place, seen = 8 if large else 4, set[int]()
    with contextlib.suppress(struct.error):
        while (start := struct.unpack_from(offset, data, place)[0]) and start not in seen:
            seen.add(start)
            (entries,) = struct.unpack_from(order + ("Q" if large else "H"), data, start)
            start += 8 if large else 2
            place = start + entries * entry.size
            page = Directory()
            for tag, kind, count, value in entry.iter_unpack(
                data[start : min(place, start + (len(data) - start) // entry.size * entry.size)]
            ):
                if tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
                    page[tag] = (max(count, *page.get(tag, (0,))),)
                elif tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH):
                    if count != 1 or kind not in (3, 4):  # 16 or 32 bits without a sign; a tag may be there twice
                        raise ImageError("damaged", "the TIFF's tiles have no valid size")
                    side = struct.unpack_from(order + " HI"[kind - 2], value)[0]
                    page[tag] = (max(side, *page.get(tag, (0,))),)
                elif kind in TIFF_NUMBERS and 0 < count <= MAX_NUMBERS:
                    numbers = struct.Struct(f"{order}{count}{TIFF_NUMBERS[kind]}")
                    inside = numbers.size <= len(value)
                    with contextlib.suppress(struct.error):
                        page[tag] = numbers.unpack_from(
                            *((value, 0) if inside else (data, *struct.unpack(offset, value)))
                        )
            yield page


def check_tiles(page: Directory, limits: Limits) -> None:
    """Refuse too many strips or tiles, or too large tiles: each is decoded whole, even if little of it shows."""
    for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
        if page.get(tag, (0,))[0] > MAX_STRIPS:
            message = f"the TIFF has {page[tag][0]:,} strips or tiles, over the limit of {MAX_STRIPS:,}; save it as PNG"
            raise ImageError("too_many_bytes", message)
    width, height = (page.get(tag, (0,))[0] for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    if width * height > limits.max_pixels:
        message = f"tiles of {width:,} × {height:,} pixels are over the limit of {limits.max_pixels:,} pixels"
        raise ImageError("too_many_pixels", message)


def described(page: Directory) -> str:
    """A TIFF's samples in words."""
    bits = page.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
    samples = page.get(TiffImagePlugin.SAMPLESPERPIXEL, (1,))[0]
    number = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
    kind = number.get(page.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0], "unsigned")
    photometric = page.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, (0,))[0]
    planes = " in planes" if page.get(TiffImagePlugin.PLANAR_CONFIGURATION) == (2,) else ""
    compression = page.get(TiffImagePlugin.COMPRESSION, (1,))[0]
    return (
        f"a TIFF of {samples} {kind} {bits}-bit samples a pixel{planes} (photometric {photometric}, compression "
        f"{compression})"
    )


def use_libtiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """Have libtiff read plain samples in planes: pillow's own reader takes 16 bits for 8."""
    tags = image.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
    if image.use_load_libtiff or tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) != 2 or bits not in (8, 16):
        return
    if image.mode in ("RGB", "RGBA", "CMYK"):
        mode = "RGBa" if tags.get(TiffImagePlugin.EXTRASAMPLES) == (1,) else image.mode
        box = (0, 0, tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH])
        image.use_load_libtiff = True
        image.tile = [ImageFile._Tile("libtiff", box, 0, (mode + ";16N" * (bits == 16), False, tags.offset))]


def check_header(image: Image.Image, data: bytes, limits: Limits, page: int) -> None:
    """Refuse by the header: too many pixels, drawn too often, or more than one frame. Move a TIFF to its page."""
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            with quiet:
                image.seek(page)
            use_libtiff(image)
            animated = False
        else:
            # A phone's JPEG may carry a preview or a depth map as further frames (MPO): its first is the photograph.
            animated = image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception as error:
        raise ImageError("damaged", f"the frames of the {image.format} can't be counted: {error}") from error
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels", f"{width:,} × {height:,} pixels are over the limit of {limits.max_pixels:,} pixels"
        )
    scans = count_scans(image, data)
    if width * height * scans > limits.max_pixels * MAX_SCANS:
        message = (
            f"the {image.format} draws {width:,} × {height:,} pixels in {scans:,} scans; save it with ten or fewer"
        )
        raise ImageError("too_many_pixels", message)
    if animated:
        raise ImageError("animated", f"the {image.format} holds more than one frame; send one still image")


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The turn that sets an image upright. One with broken EXIF counts as upright."""
    with contextlib.suppress(Exception):
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return None


def turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """The image after its turn."""
    return image if turn is None else image.transpose(turn)


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
    """16-bit grey → 8 bits, v → round(v / 257). A TIFF's may be 12 bits, or inverted; pillow ignores that."""
    tags = getattr(image, "tag_v2", {})
    most = 2 ** tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0] - 1
    levels = ((510 * np.arange(most + 1) + most) // (2 * most)).astype(np.uint8)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        levels = levels[::-1]
    return Image.fromarray(levels[np.asarray(image)])


def fit(
    image: Image.Image,
    preprocessing: Preprocessing,
    extent: tuple[float, float] | None = None,
    turn: Image.Transpose | None = None,
) -> Image.Image:
    """Resample the part of an RGB image that the preprocessing names; to its size, or less where it is to be padded.

    `extent` is the image's width and height, where the last column or row are less than a whole one; `turn` is what
    will turn the result.
    """
    width, height = extent or image.size
    across, down = part(width, height, preprocessing)
    wide, high = min(across, width), min(down, height)
    left, top = (width - wide) / 2, (height - high) / 2
    size, filter = preprocessing.size, RESAMPLING[preprocessing.interpolation]
    if preprocessing.fit in ROUNDED:
        columns, rows = whole_pixels(width, height, preprocessing)
        left = begin(columns, preprocessing, turn in LEFT_FROM_RIGHT) * width / columns
        top = begin(rows, preprocessing, turn in TOP_FROM_BOTTOM) * height / rows
        # Across first, as pillow resizes a whole image; of a part it may begin with the other axis.
        image = image.resize((size, image.height), filter, box=(left, 0, left + wide, image.height))
        left, wide, across = 0.0, float(size), float(size)
    drawn = (max(1, round(size * wide / across)), max(1, round(size * high / down)))
    return image.resize(drawn, filter, box=(left, top, left + wide, top + high))


def padded(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The pixels of an image in the middle of a grey square, uint8 [size, size, 3]."""
    if image.size != (size, size):
        square = Image.new("RGB", (size, size), GREY)
        square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        image = square
    return np.asarray(image)


def part(width: float, height: float, preprocessing: Preprocessing) -> tuple[float, float]:
    """Width and height of the centred part that is resampled to a square; with `pad` it may be beyond the image."""
    if preprocessing.fit == "squash":
        return width * preprocessing.crop, height * preprocessing.crop
    if preprocessing.fit in ROUNDED:
        across, down = whole_pixels(width, height, preprocessing)
        return width * preprocessing.size / across, height * preprocessing.size / down
    side = (max if preprocessing.fit == "pad" else min)(width, height) * preprocessing.crop
    return side, side


def begin(whole: int, preprocessing: Preprocessing, mirrored: bool) -> int:
    """The pixel of a resized side at which the centre begins; counted from the end where a turn will mirror it."""
    rest = whole - preprocessing.size
    first = ROUNDED[preprocessing.fit](rest / 2)
    return rest - first if mirrored else first


def whole_pixels(width: float, height: float, preprocessing: Preprocessing) -> tuple[int, int]:
    """Sides of the whole image where others resize first, and then cut out the centre: the longer one rounded down.

    Both happen at whole pixels, so that the centre may lie half a pixel aside, and the sides have two scales.
    """
    short = round(preprocessing.size / preprocessing.crop)
    longer = int(short * max(width, height) / min(width, height))
    return (short, longer) if width <= height else (longer, short)

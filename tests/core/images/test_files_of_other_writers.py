"""Files by writers that share no code with pillow: their pixels come out right, or they are refused with their type."""

import io
import itertools
import struct
import zlib
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from tests.bad_files import png_chunk
from tests.core.samples import encoded, noise
from vssl.images.decoding import ImageError, Preprocessing, decode

SIDE = 12
Values = npt.NDArray[Any]

DTYPES = ("bool", "uint8", "uint16", "uint32", "int8", "int16", "float16", "float32")
CHANNELS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4, "ycbcr": 3, "palette": 1}
ALPHAS = (None, "unassalpha", "assocalpha", "unspecified")
PACKED = ((None, False), ("zlib", False), ("zlib", True), ("lzma", True))
BLOCKS: tuple[dict[str, Any], ...] = ({}, {"tile": (16, 16)}, {"rowsperstrip": 5})


def outcome(data: bytes, wanted: Values) -> str:
    """`right`, `wrong`, or the type of the refusal; a few levels off is the rounding of 8-bit alpha."""
    try:
        found = decode(data, Preprocessing(SIDE))
    except ImageError as error:
        return error.type
    return "right" if np.abs(found - wanted).max() <= 3 else "wrong"


def random_samples(dtype: str, photometric: str, alpha: str | None) -> Values:
    shape = (SIDE, SIDE, CHANNELS[photometric] + (alpha is not None))
    rng = np.random.default_rng(0)
    if dtype.startswith("float"):
        return rng.random(shape).astype(dtype)
    limits = np.iinfo(np.uint8 if dtype == "bool" else dtype)
    samples = rng.integers(limits.min, 2 if dtype == "bool" else limits.max, shape).astype(dtype)
    if alpha == "assocalpha" and dtype.startswith("uint"):  # no colour is above its alpha
        samples[..., :-1] = samples[..., :-1].astype(float) * samples[..., -1:] / limits.max
    return samples


def colours(samples: Values, photometric: str, alpha: str | None, colormap: Values) -> Values:
    """What the samples look like [SIDE, SIDE, 3], 0 … 255, over white; by the text of the TIFF specification."""
    top = 1 if samples.dtype == bool else 255 if photometric == "palette" else np.iinfo(samples.dtype).max
    scaled = samples.astype(float) * 255 / top
    values, opacity = scaled[..., : CHANNELS[photometric]], scaled[..., CHANNELS[photometric] :] / 255
    if photometric == "miniswhite":
        values = 255 - values
    elif photometric == "separated":
        values = (255 - values[..., :3]) * (255 - values[..., 3:]) / 255
    elif photometric == "palette":
        values = colormap.T[samples[..., 0]] / 257
    elif photometric == "ycbcr":
        luma, blue, red = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
        values = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=2)
    if alpha == "unassalpha":
        values = values * opacity
    if alpha in ("unassalpha", "assocalpha"):
        values = values + 255 * (1 - opacity)
    seen: Values = np.broadcast_to(values.clip(0, 255), (SIDE, SIDE, 3))
    return seen


def sweep() -> dict[tuple[Any, ...], tuple[bytes, Values]]:
    """What tifffile can write without further packages, by its options."""
    files: dict[tuple[Any, ...], tuple[bytes, Values]] = {}
    colormap = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    for dtype, photometric, alpha, planes in itertools.product(DTYPES, CHANNELS, ALPHAS, (False, True)):
        samples = random_samples(dtype, photometric, alpha)
        one = samples.shape[2] == 1
        if (planes and one) or (photometric == "palette" and (dtype != "uint8" or alpha)):
            continue
        shaped = samples[..., 0] if one else np.moveaxis(samples, 2, 0) if planes else samples
        options: dict[str, Any] = {} if one else {"planarconfig": "separate" if planes else "contig"}
        if photometric == "palette":
            options["colormap"] = colormap
        if alpha:
            options["extrasamples"] = [alpha]
        wanted = np.zeros(())
        if dtype == "bool" or dtype.startswith("uint"):
            wanted = colours(samples, photometric, alpha, colormap)
        read = dtype in ("bool", "uint8", "uint16")
        for (packing, predictor), order, blocks in itertools.product(PACKED, "<>", BLOCKS if read else BLOCKS[:1]):
            if predictor and (dtype == "bool" or dtype.startswith("float") or order == ">"):
                continue
            file = io.BytesIO()
            packed = {"compression": packing, "predictor": predictor} if packing else {}
            tifffile.imwrite(
                file, shaped, photometric=photometric, byteorder=order, metadata=None, **packed, **options, **blocks
            )
            files[dtype, photometric, alpha, planes, packing, predictor, order, *blocks] = file.getvalue(), wanted
    return files


@pytest.mark.filterwarnings("error")
def test_every_tiff_of_another_writer_is_right_or_of_an_unsupported_mode() -> None:
    found = {options: outcome(data, wanted) for options, (data, wanted) in sweep().items()}

    assert [options for options, what in found.items() if what not in ("right", "unsupported_mode")] == []
    counted = Counter(found.values())
    assert counted["right"] > 500
    for options, what in found.items():  # what people have is read
        dtype, photometric, alpha = options[:3]
        usual = photometric == "rgb" or (photometric == "minisblack" and not alpha)
        if dtype in ("uint8", "uint16") and usual and alpha != "unspecified":
            assert what == "right", options
        if dtype.startswith(("int", "float")):
            assert what == "unsupported_mode", options


def with_tags(tags: dict[int, tuple[int, int]], bits: int, samples: bytes, more: bytes = b"") -> bytes:
    """A TIFF of `SIDE` × `SIDE` grey pixels in one strip, of tag → (type, value), written by hand."""
    size = {256: (3, SIDE), 257: (3, SIDE), 258: (3, bits), 273: (4, 8), 278: (3, SIDE), 279: (4, len(samples))}
    entries = sorted((size | tags).items())
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in entries)
    return struct.pack("<2sHI", b"II", 42, 8 + len(samples)) + samples + struct.pack("<H", len(entries)) + body + more


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
@pytest.mark.parametrize("reverse", [False, True], ids=["usual order", "bits from the right"])
@pytest.mark.parametrize("white", [0, 1])
def test_tiffs_of_few_bits(bits: int, reverse: bool, white: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**bits, (SIDE, SIDE))
    places = np.arange(bits - 1, -1, -1)
    packed = np.packbits(((samples[..., None] >> places) & 1).reshape(SIDE, -1), axis=1)
    if reverse:
        packed = np.packbits(np.unpackbits(packed, axis=1).reshape(SIDE, -1, 8)[..., ::-1].reshape(SIDE, -1), axis=1)
    data = with_tags({262: (3, white), 266: (3, 1 + reverse)}, bits, packed.tobytes() + bytes(4))
    grey = samples * 255 / (2**bits - 1)
    wanted = np.repeat((grey if white else 255 - grey)[..., None], 3, axis=2)

    assert outcome(data, wanted) in (("right",) if bits < 12 else ("right", "unsupported_mode"))


def test_a_predictor_that_libtiff_passes_over_is_refused() -> None:
    """PackBits with differences of neighbours in place of the samples."""
    rows = np.diff(noise(SIDE, SIDE)[..., 0], axis=1, prepend=np.uint8(0)).astype(np.uint8)
    packed = b"".join(bytes([SIDE - 1]) + row.tobytes() for row in rows)

    assert (
        outcome(with_tags({259: (3, 32773), 262: (3, 1), 317: (3, 2)}, 8, packed), np.zeros(())) == "unsupported_mode"
    )
    grey = np.cumsum(rows, axis=1, dtype=np.uint8)[..., None]
    packed = b"".join(bytes([SIDE - 1]) + row.tobytes() for row in grey)
    assert outcome(with_tags({259: (3, 32773), 262: (3, 1)}, 8, packed), np.repeat(grey, 3, axis=2)) == "right"


@pytest.mark.parametrize(("kind", "thumbnail_first"), [(1, False), (1, True), (4, False), (5, False)])
def test_a_page_with_its_thumbnail_or_mask(kind: int, thumbnail_first: bool) -> None:
    page: Values = noise(SIDE, SIDE)
    small: Values = noise(4, 4, seed=1)
    if kind & 4:  # of one bit a pixel
        small = small[..., 0] > 127
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for image, what in sorted([(page, 0), (small, kind)], key=lambda pair: pair[1], reverse=thumbnail_first):
            photometric = "minisblack" if image.ndim == 2 else "rgb"
            writer.write(image, photometric=photometric, subfiletype=what, metadata=None)

    assert outcome(file.getvalue(), page) == "right"


@pytest.mark.parametrize(("kinds", "pages"), [((0, 0), 2), ((2, 2), 2), ((0, 1, 0), 3)])
def test_several_pages(kinds: tuple[int, ...], pages: int) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for kind in kinds:
            writer.write(noise(SIDE, SIDE), photometric="rgb", subfiletype=kind, metadata=None)

    assert len(tifffile.TiffFile(io.BytesIO(file.getvalue())).pages) == pages
    assert outcome(file.getvalue(), np.zeros(())) == "animated"


def unfiltered_png(samples: Values, bits: int, colour: int, interlaced: bool, palette: Values) -> bytes:
    """By the text of the PNG specification; samples [SIDE, SIDE, channels]."""
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first row and column, steps between rows and columns
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    places = np.arange(bits - 1, -1, -1)
    rows = []
    for top, left, down, right in passes:
        for row in samples[top::down, left::right]:
            rows.append(b"\0" + np.packbits((row.astype(np.int64)[..., None] >> places) & 1).tobytes())
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    if colour == 3:
        chunks.insert(1, (b"PLTE", palette.astype(np.uint8).tobytes()))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("bits", "colour"),
    [
        *itertools.product((1, 2, 4, 8, 16), [0]),
        *itertools.product((1, 2, 4, 8), [3]),
        *itertools.product((8, 16), [2, 4, 6]),
    ],
)
def test_every_kind_of_png(bits: int, colour: int, interlaced: bool) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 2**bits, (SIDE, SIDE, {0: 1, 3: 1, 2: 3, 4: 2, 6: 4}[colour]))
    palette = rng.integers(0, 256, (2**bits if bits <= 8 else 1, 3))
    scaled = samples * 255 / (2**bits - 1)
    opacity = scaled[..., -1:] / 255 if colour in (4, 6) else 1.0
    values = palette[samples[..., 0]] if colour == 3 else scaled[..., : 3 if colour in (2, 6) else 1]
    wanted = np.broadcast_to(values * opacity + 255 * (1 - opacity), (SIDE, SIDE, 3))

    assert outcome(unfiltered_png(samples, bits, colour, interlaced, palette), wanted) == "right"


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8, 16, 24, 32])
def test_every_kind_of_bmp(bits: int, upside_down: bool) -> None:
    """Uncompressed, from the bottom up as is usual or from the top down; the fourth byte of 32 bits is not used."""
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (2**bits if bits <= 8 else 0, 3))
    samples: Values = rng.integers(0, 2 ** min(bits, 16), (SIDE, SIDE)) if bits <= 16 else noise(SIDE, SIDE)
    wanted: Values
    if bits <= 8:
        wanted = palette[samples]
        rows = [np.packbits((row[..., None] >> np.arange(bits - 1, -1, -1)) & 1).tobytes() for row in samples]
    elif bits == 16:  # 5 bits each
        wanted = np.stack([(samples >> shift & 31) * 255 / 31 for shift in (10, 5, 0)], axis=2)
        rows = [row.astype("<u2").tobytes() for row in samples]
    else:
        wanted = samples
        blank = np.zeros((SIDE, SIDE, bits // 8 - 3), np.uint8)
        rows = [row.tobytes() for row in np.concatenate([samples[..., ::-1], blank], axis=2)]
    rows = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows]
    colours = np.concatenate([palette[:, ::-1], np.zeros((len(palette), 1), int)], axis=1).astype(np.uint8).tobytes()
    body = b"".join(rows if upside_down else rows[::-1])
    place = 14 + 40 + len(colours)
    size = struct.pack("<IiiHHIIiiII", 40, SIDE, -SIDE if upside_down else SIDE, 1, bits, 0, len(body), 0, 0, 0, 0)

    assert outcome(struct.pack("<2sIII", b"BM", place + len(body), 0, place) + size + colours + body, wanted) == "right"


@pytest.mark.parametrize("most", [1, 15, 255, 1023, 65535])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6])
def test_every_kind_of_pnm(kind: int, most: int) -> None:
    """P1 to P3 are text, P4 to P6 binary; P1 and P4 are of bits whose one is black, and name no highest value."""
    samples = np.random.default_rng(0).integers(0, most + 1, (SIDE, SIDE, 3 if kind in (3, 6) else 1))
    values: Values = samples * 255 / most
    if kind in (1, 4):
        samples = samples % 2
        values = 255 - samples * 255
    head = f"P{kind}\n# a comment\n{SIDE} {SIDE}\n" + (f"{most}\n" if kind not in (1, 4) else "")
    if kind == 4:
        body = np.packbits(samples[..., 0], axis=1).tobytes()
    elif kind > 4:
        body = samples.astype(">u2" if most > 255 else "u1").tobytes()
    else:
        body = " ".join(map(str, samples.ravel())).encode()

    assert outcome(head.encode() + body, np.broadcast_to(values, (SIDE, SIDE, 3))) == "right"


def webp_of_one_colour(colour: tuple[int, int, int, int]) -> bytes:
    """A lossless WebP of one ARGB colour, by the text of its specification: four codes of one symbol, no pixel data."""
    bits = [(0x2F, 8), (SIDE - 1, 14), (SIDE - 1, 14), (1, 1), (0, 3), (0, 1), (0, 1), (0, 1)]
    alpha, red, green, blue = colour
    for symbol in (green, red, blue, alpha, 0):  # a simple code: one symbol of 8 bits
        bits += [(1, 1), (0, 1), (1, 1), (symbol, 8)]
    number = place = 0
    for value, width in bits:
        number |= value << place
        place += width
    body = number.to_bytes(-(-place // 8), "little")
    body = b"VP8L" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize("colour", [(255, 200, 30, 90), (120, 10, 250, 60), (0, 1, 2, 3)])
def test_webp(colour: tuple[int, int, int, int]) -> None:
    alpha = colour[0] / 255
    wanted = np.array(colour[1:]) * alpha + 255 * (1 - alpha)

    assert outcome(webp_of_one_colour(colour), np.broadcast_to(wanted, (SIDE, SIDE, 3))) == "right"


@pytest.mark.parametrize("signature", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_a_file_that_says_what_it_is_meant_to_be_is_never_no_image(signature: str) -> None:
    whole = encoded(noise(SIDE, SIDE), signature)
    for length in (12, 16, 20):
        assert outcome(whole[:length].ljust(64, b"\x05"), np.zeros(())) == "damaged"

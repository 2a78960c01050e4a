"""The pixels that come out, against what they should be, worked out by other means."""

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vssl.images.decoding
from tests.core.samples import Pixels, encoded, noise, raw_pgm, raw_png, raw_tiff
from vssl.images.decoding import ImageError, Preprocessing, decode

ALL_16_BIT = np.arange(65536, dtype=np.uint16).reshape(256, 256)
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: np.rot90(stored, 2),
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


def exact(data: bytes, side: int) -> Pixels:
    """The decoded pixels of a square image, which at its own size are not resampled."""
    return decode(data, Preprocessing(side))


def over_white(values: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    blended: npt.NDArray[np.float64] = values * (alpha / 255.0) + (255.0 - alpha)
    return blended


def assert_within(found: npt.NDArray[np.uint8], wanted: npt.NDArray[np.floating], levels: float) -> None:
    assert np.abs(found.astype(np.float64) - wanted).max() <= levels


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(16, 24), format, exif=exif.tobytes())
    stored = np.asarray(Image.open(io.BytesIO(encoded(noise(16, 24), format))).convert("RGB"))
    upright = encoded(np.ascontiguousarray(UPRIGHT[orientation](stored)), "PNG")

    assert np.array_equal(decode(data, Preprocessing(12)), decode(upright, Preprocessing(12)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_counts_as_upright(exif: bytes) -> None:
    plain = encoded(noise(16, 16), "JPEG")

    assert np.array_equal(exact(encoded(noise(16, 16), "JPEG", exif=exif), 16), exact(plain, 16))


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (30, 90, 200, 0), (30, 90, 200, 120), (0, 0, 0, 255)])
def test_cmyk_jpeg(ink: tuple[int, int, int, int]) -> None:
    """Adobe stores the inks inverted, and marks the file; pillow writes such files. One level off: rounding."""
    data = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100)
    cyan, magenta, yellow, black = ink
    colour = [(255 - part) * (255 - black) / 255 for part in (cyan, magenta, yellow)]

    assert b"Adobe" in data
    assert_within(exact(data, 16), np.broadcast_to(np.array(colour), (16, 16, 3)), 1)


def test_cmyk_jpeg_without_adobes_mark_is_read_like_one_with_it() -> None:
    """As browsers do: files that store the inks upright are not found in practice."""
    data = encoded(Image.new("CMYK", (16, 16), (30, 90, 200, 120)), "JPEG", quality=100)
    start = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[start + 2 : start + 4])[0]
    unmarked = data[:start] + data[start + 2 + length :]

    assert b"Adobe" not in unmarked
    assert np.array_equal(exact(unmarked, 16), exact(data, 16))


def test_palette() -> None:
    palette = noise(1, 256)[0]
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(indices).convert("L")
    image.putpalette(palette.tobytes())

    assert np.array_equal(exact(encoded(image, "PNG"), 16), palette[indices])
    assert np.array_equal(exact(encoded(image, "GIF"), 16), palette[indices])


def test_palette_with_one_transparent_colour() -> None:
    palette = noise(1, 256)[0]
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(indices).convert("L")
    image.putpalette(palette.tobytes())
    wanted = palette[indices]
    wanted[indices == 77] = 255

    assert np.array_equal(exact(encoded(image, "PNG", transparency=77), 16), wanted)
    assert np.array_equal(exact(encoded(image, "GIF", transparency=77), 16), wanted)


def test_palette_with_an_alpha_for_each_colour() -> None:
    palette = noise(1, 256)[0]
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(indices).convert("L")
    image.putpalette(palette.tobytes())
    data = encoded(image, "PNG", transparency=bytes(range(256)))

    assert_within(exact(data, 16), over_white(palette[indices], indices[..., None]), 1)


def test_every_grey_with_every_alpha() -> None:
    """One level off: pillow rounds the weighted sum in integers."""
    grey, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    wanted = np.repeat(over_white(grey, alpha)[..., None], 3, axis=2)
    found = exact(encoded(Image.fromarray(np.stack([grey, alpha], axis=2), "LA"), "PNG"), 256)

    assert_within(found, wanted, 1)
    assert np.array_equal(found[255], np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))
    assert (found[0] == 255).all()


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_rgba(format: str) -> None:
    colour, alpha = noise(32, 32), noise(32, 32, seed=1)[..., :1]
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    data = encoded(np.concatenate([colour, alpha], axis=2), format, **options)

    assert_within(exact(data, 32), over_white(colour, alpha), 1)


def test_premultiplied_alpha() -> None:
    """TIFF's associated alpha, grey: the stored value is grey × alpha already, so white adds 255 − alpha."""
    data = raw_tiff(16, 16, bytes([60, 120] * 256), (8, 8), 1)

    assert Image.open(io.BytesIO(data)).mode == "La"
    assert_within(exact(data, 16), np.full((16, 16, 3), 60.0 + 255 - 120), 1)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_colour_that_stands_for_transparent(mode: str) -> None:
    image = Image.fromarray(noise(16, 16)).convert(mode)
    image.putpixel((3, 2), 0)
    key = (0, 0, 0) if mode == "RGB" else 0
    wanted = np.asarray(image.convert("RGB")).copy()
    wanted[(wanted == 0).all(axis=2)] = 255

    assert np.array_equal(exact(encoded(image, "PNG", transparency=key), 16), wanted)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(ALL_16_BIT), "PNG"),
        raw_png(ALL_16_BIT[..., None]),
        encoded(Image.fromarray(ALL_16_BIT), "TIFF"),
        encoded(Image.fromarray(ALL_16_BIT), "TIFF", compression="tiff_lzw"),
        encoded(Image.fromarray(ALL_16_BIT.astype(">u2")), "TIFF"),
        raw_pgm(ALL_16_BIT, 65535),
    ],
    ids=["png", "raw png", "tiff", "lzw tiff", "big-endian tiff", "pgm"],
)
def test_16_bit_grey_is_scaled(data: bytes) -> None:
    """0 … 65535 → 0 … 255 evenly; pillow's own conversion would clip everything over 255."""
    wanted = np.rint(ALL_16_BIT / 257).astype(np.uint8)

    assert np.array_equal(exact(data, 256), np.repeat(wanted[..., None], 3, axis=2))


def test_tiff_whose_zero_is_white() -> None:
    wanted = 255 - np.rint(ALL_16_BIT / 257).astype(np.uint8)
    data = raw_tiff(256, 256, ALL_16_BIT.astype("<u2").tobytes(), (16,), 0)

    assert np.array_equal(exact(data, 256)[..., 0], wanted)


def test_12_bit_tiff() -> None:
    samples = np.arange(4096).reshape(-1, 2)
    first, second = samples[:, 0], samples[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    data = raw_tiff(64, 64, packed.tobytes(), (12,), 1)

    assert np.array_equal(exact(data, 64)[..., 0], np.rint(np.arange(4096).reshape(64, 64) * 255 / 4095))


def test_pgm_of_10_bits() -> None:
    """One level off: pillow scales to 16 bits first."""
    samples = np.arange(1024, dtype=np.uint16).reshape(32, 32)

    assert_within(exact(raw_pgm(samples, 1023), 32), np.repeat(samples[..., None] * (255 / 1023), 3, axis=2), 1)


def test_16_bit_colours() -> None:
    """One level off: pillow reads the upper byte only, v // 256 instead of v / 257."""
    samples = np.random.default_rng(0).integers(0, 65536, (32, 32, 3), dtype=np.uint16)

    assert_within(exact(raw_png(samples), 32), samples / 257, 1)


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_alpha(channels: int) -> None:
    """Two levels off: the upper bytes of colour and of alpha, and the rounding of their product."""
    samples = np.random.default_rng(0).integers(0, 65536, (32, 32, channels), dtype=np.uint16)
    colour, alpha = samples[..., :-1] / 257, samples[..., -1:] / 257
    wanted = np.broadcast_to(over_white(colour, alpha), (32, 32, 3))

    assert_within(exact(raw_png(samples), 32), wanted, 2)


def test_1_bit() -> None:
    bits = noise(16, 16)[..., 0] > 127

    assert np.array_equal(exact(encoded(Image.fromarray(bits), "PNG"), 16)[..., 1], bits * 255)


def test_grey_jpeg() -> None:
    data = encoded(noise(16, 16)[..., 0], "JPEG")
    grey = np.asarray(Image.open(io.BytesIO(data)))

    assert grey.ndim == 2
    assert np.array_equal(exact(data, 16), np.repeat(grey[..., None], 3, axis=2))


def test_the_first_frame_of_a_phones_jpeg_is_the_photograph() -> None:
    first, preview = Image.fromarray(noise(16, 16)), Image.fromarray(noise(16, 16, seed=1))
    data = encoded(first, "MPO", save_all=True, append_images=[preview], quality=95)

    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(exact(data, 16), exact(encoded(first, "JPEG", quality=95), 16))


def test_formats_without_a_range_are_refused() -> None:
    for mode in ("I", "F"):
        with pytest.raises(ImageError, match="32-bit") as caught:
            exact(encoded(Image.new(mode, (4, 4)), "TIFF"), 4)
        assert caught.value.type == "unsupported_mode"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 96), (160, 64), (32, 32), (32, 48), (16, 16), (16, 24)])
def test_resize_and_centre_crop(width: int, height: int, crop: float, interpolation: str) -> None:
    """One resampling of the centred square equals resizing the shorter side and cutting, where that divides evenly."""
    size = 28 if crop < 1 else 32
    image = Image.fromarray(noise(height, width))
    scale = 32 / min(width, height)
    resized = image.resize(
        (round(width * scale), round(height * scale)), getattr(Image.Resampling, interpolation.upper())
    )
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    wanted = np.asarray(resized)[top : top + size, left : left + size]

    found = decode(encoded(image, "PNG"), Preprocessing(size, crop, interpolation))  # type: ignore[arg-type]
    assert np.array_equal(found, wanted)


def test_shrinking_averages() -> None:
    """Antialiased: a fine checkerboard becomes grey, not black or white."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    found = decode(encoded(board.astype(np.uint8), "PNG"), Preprocessing(8))

    assert_within(found, np.full((8, 8, 3), 127.5), 6)


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.floats(0.01, 1, exclude_min=True),
    st.sampled_from(["bilinear", "bicubic"]),
    st.integers(0, 255),
)
@settings(max_examples=60, deadline=None)
def test_any_size_fits(width: int, height: int, size: int, crop: float, interpolation: str, shade: int) -> None:
    data = encoded(Image.new("L", (width, height), shade), "PNG")
    found = decode(data, Preprocessing(size, crop, interpolation))  # type: ignore[arg-type]

    assert found.dtype == np.uint8
    assert found.shape == (size, size, 3)
    assert (found == shade).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size 0"),
        ({"size": 4097}, "size 4097"),
        ({"size": 8, "crop": 0.0}, "crop 0.0"),
        ({"size": 8, "crop": 1.1}, "crop 1.1"),
        ({"size": 8, "crop": float("nan")}, "crop nan"),
        ({"size": 8, "interpolation": "nearest"}, "'nearest'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**settings)  # type: ignore[arg-type]


def test_the_file_works_alone() -> None:
    """It is copied beside Triton models, where there is no vssl."""
    script = """
import importlib.util, sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith(("vssl", "pydantic")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
spec = importlib.util.spec_from_file_location("copied", sys.argv[1])
module = sys.modules["copied"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.decode(sys.stdin.buffer.read(), module.Preprocessing(2)).shape)
"""
    path = Path(vssl.images.decoding.__file__)
    done = subprocess.run(
        [sys.executable, "-c", script, path], input=encoded(noise(4, 4), "PNG"), capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (b"(2, 2, 3)\n", b"")

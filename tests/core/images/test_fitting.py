"""Which part of an image becomes the square, and large images drawn smaller: against pillow and against geometry."""

import io
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tests.core.images.test_decoding import UPRIGHT
from tests.core.samples import Pixels, encoded, noise
from vssl.images.decoding import (
    MARGIN,
    ImageError,
    Preprocessing,
    decode,
    open_guarded,
    part,
    reduction,
    work,
)

FITS = ("crop", "crop-round", "crop-floor", "squash", "pad")


def ramp(height: int, width: int) -> Pixels:
    """Smooth: red grows to the right, green downwards, blue along the diagonal. Scaling leaves it as it is."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    colours: Pixels = np.rint(np.stack([x, y, (x + y) / 2], axis=-1) * 255).astype(np.uint8)
    return colours


def jpeg(pixels: Pixels, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(pixels, "JPEG", exif=exif, quality=95, **options)


def largest(found: Pixels, wanted: npt.ArrayLike) -> float:
    return float(np.abs(found.astype(np.float64) - np.asarray(wanted, np.float64)).max())


def test_squash_is_pillows_resize_of_the_whole() -> None:
    pixels = noise(31, 50)
    wanted = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(decode(encoded(pixels, "PNG"), Preprocessing(16, fit="squash")), np.asarray(wanted))


@pytest.mark.parametrize(("height", "width"), [(90, 120), (120, 90), (91, 119), (93, 117), (70, 70)])
@pytest.mark.parametrize("fit", ["crop-round", "crop-floor"])
def test_a_rounded_crop_is_pillows_resize_and_then_a_cut_at_whole_pixels(height: int, width: int, fit: str) -> None:
    pixels, short = noise(height, width), 36
    resized = (int(short * width / height), short) if width > height else (short, int(short * height / width))
    left, top = ((side - 32) / 2 for side in resized)
    begin = (round(left), round(top)) if fit == "crop-round" else (int(left), int(top))
    whole = Image.fromarray(pixels).resize(resized, Image.Resampling.BICUBIC)
    wanted = np.asarray(whole.crop((*begin, begin[0] + 32, begin[1] + 32)))
    found = decode(encoded(pixels, "PNG"), Preprocessing(32, 32 / short, fit=fit))  # type: ignore[arg-type]
    assert largest(found, wanted) <= 1


@pytest.mark.parametrize(("height", "width"), [(30, 60), (60, 30)])
def test_pad_is_the_image_in_the_middle_of_a_grey_square(height: int, width: int) -> None:
    pixels = noise(height, width)
    square = Image.new("RGB", (60, 60), (128, 128, 128))
    square.paste(Image.fromarray(pixels), ((60 - width) // 2, (60 - height) // 2))
    wanted = np.asarray(square.resize((20, 20), Image.Resampling.BICUBIC)).copy()
    found = decode(encoded(pixels, "PNG"), Preprocessing(20, fit="pad"))
    if width < height:
        wanted, found = wanted.swapaxes(0, 1), found.swapaxes(0, 1)
    np.testing.assert_array_equal(found[:5], np.full_like(found[:5], 128))
    np.testing.assert_array_equal(found[-5:], np.full_like(found[:5], 128))
    assert largest(found[7:13], wanted[7:13]) <= 1  # the rows between see the border in the one and not in the other


@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.integers(1, 24),
    st.floats(0.05, 1),
    st.sampled_from(FITS),
    st.sampled_from(["exact", "scaled-1"]),
    st.sampled_from(["PNG", "JPEG"]),
)
@settings(deadline=None)
def test_a_plain_image_stays_plain_whatever_its_shape(
    width: int, height: int, size: int, crop: float, fit: str, decoder: str, format: str
) -> None:
    how = Preprocessing(size, crop, fit=fit, decoder=decoder)  # type: ignore[arg-type]
    data = encoded(Image.new("RGB", (width, height), (200, 100, 50)), format, quality=95)
    found = decode(data, how)
    assert found.shape == (size, size, 3)
    grey = (found == 128).all(axis=-1)
    assert largest(found[~grey], (200, 100, 50)) <= 3
    across, down = part(width, height, how)
    drawn = [max(1, round(size * min(1, side / whole))) for side, whole in ((width, across), (height, down))]
    assert (~grey).sum() == drawn[0] * drawn[1]


@pytest.mark.parametrize("fit", [*FITS, "crop-round", "crop-floor"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_jpeg_is_drawn_smaller_and_nothing_moves(fit: str, orientation: int) -> None:
    """Its sides are no multiples of 8: the last blocks are partly empty, and a turn brings them to the front."""
    pixels = ramp(203, 303)
    how = Preprocessing(16, 0.8, "bicubic", fit, "scaled-1")  # type: ignore[arg-type]
    assert reduction(303, 203, how) >= 4
    data = jpeg(pixels, orientation)
    upright = encoded(np.ascontiguousarray(UPRIGHT[orientation](pixels)), "PNG")
    wanted = decode(upright, Preprocessing(16, 0.8, fit=fit))  # type: ignore[arg-type]
    assert largest(decode(data, how), wanted) <= 2


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "PPM", "BMP"])
def test_other_formats_are_averaged_over_blocks(format: str) -> None:
    pixels = noise(128, 192)
    data = encoded(pixels, format, **({"lossless": True} if format == "WEBP" else {}))
    how = Preprocessing(16, decoder="scaled-1")
    scale = reduction(192, 128, how)
    blocks = pixels.reshape(128 // scale, scale, 192 // scale, scale, 3).mean(axis=(1, 3))
    wanted = decode(encoded(np.floor(blocks + 0.5).astype(np.uint8), "PNG"), Preprocessing(16))
    assert scale > 1
    assert largest(decode(data, how), wanted) <= 1


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 512), st.floats(0.05, 1), st.sampled_from(FITS))
def test_the_scale_is_the_largest_that_leaves_the_margin(
    width: int, height: int, size: int, crop: float, fit: str
) -> None:
    how = Preprocessing(size, crop, "bicubic", fit, "scaled-1")  # type: ignore[arg-type]
    scale, least = reduction(width, height, how), min(part(width, height, how))
    assert scale == 1 or least / scale >= MARGIN * size
    assert scale == 8 or least / (2 * scale) < MARGIN * size or 2 * scale > min(width, height)
    assert reduction(width, height, Preprocessing(size, crop)) == 1


def test_a_small_image_is_decoded_as_ever() -> None:
    data = jpeg(noise(50, 60))
    np.testing.assert_array_equal(decode(data, Preprocessing(32, decoder="scaled-1")), decode(data, Preprocessing(32)))


def test_a_phones_jpeg_with_a_preview_is_drawn_smaller_as_one_without() -> None:
    images = [Image.fromarray(noise(200, 200, seed)) for seed in range(2)]
    file, how = io.BytesIO(), Preprocessing(16, decoder="scaled-1")
    images[0].save(file, "MPO", save_all=True, append_images=images[1:], quality=95)
    with open_guarded(file.getvalue()) as image:
        assert (image.format, work(image, file.getvalue(), how)) == ("MPO", -(-200 * 200 // 3))
    np.testing.assert_array_equal(decode(file.getvalue(), how), decode(jpeg(noise(200, 200)), how))


def test_a_jpeg_cut_short_is_refused_and_one_without_its_end_marker_is_not() -> None:
    data, how = jpeg(noise(200, 200)), Preprocessing(16, decoder="scaled-1")
    with pytest.raises(ImageError, match="cut short"):
        decode(data[: len(data) // 2], how)
    np.testing.assert_array_equal(decode(data[:-2], how), decode(data, how))


def lossless(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A lossless JPEG of grey pixels [H, W], each predicted by its left neighbour: pillow reads these, but can't write
    them."""
    height, width = pixels.shape
    left = np.concatenate([np.full((height, 1), 128, np.int64), pixels[:, :-1].astype(np.int64)], axis=1)
    left[1:, 0] = pixels[:-1, 0]
    bits = ""
    for step in (pixels.astype(np.int64) - left).ravel():
        size = int(abs(step)).bit_length()
        value = step if step > 0 else step + (1 << size) - 1
        bits += f"{size:04b}" + (f"{value:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")
    table = bytes([0, 0, 0, 0, 9, *[0] * 12]) + bytes(range(9))
    frame = bytes([8, *height.to_bytes(2), *width.to_bytes(2), 1, 1, 0x11, 0])
    scan = bytes([1, 1, 0, 1, 0, 0])
    segments = [(0xC4, table), (0xC3, frame), (0xDA, scan)]
    head = b"".join(bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2) + body for kind, body in segments)
    return b"\xff\xd8" + head + coded + b"\xff\xd9"


def test_a_lossless_jpeg_has_no_frequencies_to_leave_out() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 64), np.uint8)
    data, how = lossless(pixels), Preprocessing(8, decoder="scaled-1")
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert reduction(64, 96, how) > 1
    np.testing.assert_array_equal(decode(data, how), decode(encoded(pixels, "PNG"), how))


@pytest.mark.parametrize(
    ("options", "share"), [({}, 3), ({"progressive": True}, 1), ({"keep": True}, 1)], ids=["one scan", "many", "PNG"]
)
def test_what_is_read_but_not_drawn_is_less_work(options: dict[str, bool], share: int) -> None:
    pixels = ramp(400, 640)
    data = encoded(pixels, "PNG") if "keep" in options else jpeg(pixels, **options)
    with open_guarded(data) as image:
        assert work(image, data, Preprocessing(16)) == 400 * 640
        assert work(image, data, Preprocessing(16, decoder="scaled-1")) == -(-400 * 640 // share)
        assert work(image, data, Preprocessing(80, decoder="scaled-1")) == 400 * 640 // min(share, 2)


def test_a_jpeg_drawn_smaller_takes_no_memory_for_the_rest() -> None:
    script = """
import sys
from vssl.images.decoding import Preprocessing, decode
data = sys.stdin.buffer.read()
decode(data, Preprocessing(8, decoder=sys.argv[1]))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    data = encoded(Image.new("RGB", (4000, 3000), (90, 120, 60)), "JPEG")

    def peak(decoder: str) -> int:
        done = subprocess.run([sys.executable, "-c", script, decoder], input=data, capture_output=True, check=True)
        return int(done.stdout) * 1024

    assert peak("exact") - peak("scaled-1") > 30e6  # of the 48 MB that 12 megapixels are

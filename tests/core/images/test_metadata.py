"""What stands beside the pixels of a file does not change them, however large or broken it is."""

import io
import pickle
import struct
import subprocess
import sys
import warnings
import zlib
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.bad_files import png_chunk
from tests.core.samples import Pixels, encoded, fashion, noise
from vssl.images.decoding import ImageError, ImageErrorType, Preprocessing, decode, without_metadata

SIDE = 28
PICTURE = fashion(1, SIDE)[0]


def upside_down() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif.tobytes()


PNGS = {
    "rgb": encoded(PICTURE, "PNG"),
    "palette": encoded(Image.fromarray(PICTURE).quantize(16), "PNG", transparency=0),
    "turned": encoded(PICTURE, "PNG", exif=upside_down()),
}
JPEGS = {
    "baseline": encoded(PICTURE, "JPEG"),
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "cmyk": encoded(Image.fromarray(PICTURE).convert("CMYK"), "JPEG"),
    "grey": encoded(PICTURE[..., 0], "JPEG"),
    "turned": encoded(PICTURE, "JPEG", exif=upside_down()),
    "full colour": encoded(PICTURE, "JPEG", subsampling=0, quality=95, restart_marker_blocks=2),
}


def pixels(data: bytes) -> Pixels:
    return decode(data, Preprocessing(SIDE))


def chunk(kind: bytes, body: bytes, broken: bool) -> bytes:
    whole = png_chunk(kind, body)
    return whole[:-4] + struct.pack(">I", zlib.crc32(kind + body) ^ 1) if broken else whole


TEXTS = st.sampled_from(
    [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"tIME", b"sBIT", b"bKGD"]
)
OTHERS = st.sampled_from([b"prVt", b"hIST", b"sPLT", b"oFFs", b"acTL", b"fcTL", b"fdAT", b"caBX"])
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([0, 1_000, 2_000_000]).map(lambda size: b"workflow\0\0" + zlib.compress(bytes(size))),
    st.sampled_from([10, 200_000]).map(lambda size: b"workflow\0" + b"x" * size),
)


@given(st.sampled_from(sorted(PNGS)), TEXTS | OTHERS, BODIES, st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_pngs_ancillary_chunk(name: str, kind: bytes, body: bytes, broken: bool, behind: bool) -> None:
    data = PNGS[name]
    if kind == b"acTL" and not broken:
        body = body[:7]  # a whole one makes an animation of it
    place = data.index(b"IEND") - 4 if behind else 33
    found = pixels(data[:place] + chunk(kind, body, broken) + data[place:])

    assert np.array_equal(found, pixels(data))


@given(st.sampled_from(sorted(PNGS)), st.lists(st.tuples(TEXTS, BODIES, st.booleans()), min_size=2, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_pngs_ancillary_chunks_together(name: str, chunks: list[tuple[bytes, bytes, bool]]) -> None:
    data = PNGS[name]
    more = b"".join(chunk(*each) for each in chunks)

    assert np.array_equal(pixels(data[:33] + more + data[33:]), pixels(data))


HEADS = st.sampled_from(
    [b"", b"Photoshop 3.0\0", b"Photoshop 3.0\x008BIM", b"Adobe", b"ICC_PROFILE\0", b"MPF\0", b"JFIF\0", b"FPXR\0"]
)
BODY = st.one_of(st.binary(max_size=40), st.just(bytes(65_000)))
"""A JPEG's APP segments but Exif's, which says what side is up."""


@given(st.sampled_from(sorted(JPEGS)), st.integers(0, 16), HEADS, BODY)
@settings(max_examples=300, deadline=None)
def test_a_jpegs_segments(name: str, number: int, head: bytes, body: bytes) -> None:
    """Short ones of every kind; Adobe's is whole from 12 bytes on, and then says which colours there are."""
    data = JPEGS[name]
    if head in (b"Adobe", b"JFIF\0") and number in (0, 14):
        body = body[: 11 - len(head)]
    marker = 0xFE if number == 16 else 0xE0 + number
    segment = struct.pack(">BBH", 0xFF, marker, 2 + len(head + body)) + head + body

    assert np.array_equal(pixels(data[:2] + segment + data[2:]), pixels(data))


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_is_whole(name: str, lost: int) -> None:
    assert np.array_equal(pixels(JPEGS[name][:-lost]), pixels(JPEGS[name]))


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_lacks_more_is_not(name: str) -> None:
    """It may lack bits whose every value gives the same pixels; else it is damaged, and most are."""
    data, refused = JPEGS[name], []
    for length in range(len(data) - 60, len(data) - 2):
        try:
            found = pixels(data[:length])
        except ImageError as error:
            refused.append(error.type)
        else:
            assert np.array_equal(found, pixels(data))
    assert refused.count("damaged") == len(refused) >= 50


def test_a_progressive_jpeg_that_ends_between_two_scans_is_cut_short() -> None:
    data = JPEGS["progressive"]
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    for place in scans[1:]:
        for end in (b"", b"\xff"):
            with pytest.raises(ImageError) as caught:
                pixels(data[:place] + end)
            assert caught.value.type == "damaged"


def test_an_animation_whose_comment_is_broken_is_an_animation() -> None:
    frames = [Image.fromarray(noise(8, 8, seed)) for seed in (0, 1)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError) as caught:
        pixels(data[:33] + chunk(b"tEXt", b"a", broken=True) + data[33:])
    assert caught.value.type == "animated"


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_broken_chunk_that_pixels_depend_on_is_no_metadata(kind: bytes) -> None:
    data = bytearray(PNGS["palette"])
    start = data.index(kind)
    end = start + 4 + struct.unpack_from(">I", data, start - 4)[0]
    data[end] ^= 1  # of its checksum
    with pytest.raises(ImageError) as caught:
        pixels(bytes(data))
    assert caught.value.type == "damaged"


@pytest.mark.parametrize("data", [*PNGS.values(), *JPEGS.values()])
def test_what_is_left_without_metadata_has_the_same_pixels(data: bytes) -> None:
    assert np.array_equal(pixels(without_metadata(data)), pixels(data))


@pytest.mark.parametrize("filler", [b"\0\0\0\0tEXt\x3b\xa3\x9f\x4a", b"\0\0\0\0IDAT\x35\xaf\x06\x1e"])
def test_a_png_of_a_hundred_thousand_chunks_is_refused_at_once(filler: bytes) -> None:
    data = PNGS["rgb"]
    with pytest.raises(ImageError) as caught:
        pixels(data[:33] + filler * 100_000 + data[33:])
    assert caught.value.type == "too_many_bytes"


def test_warnings_of_pillow_are_not_shown_and_those_of_others_are() -> None:
    """In threads at once, in a process whose standard error nobody else writes to."""
    script = """
import sys, warnings
from concurrent.futures import ThreadPoolExecutor
from vssl.images.decoding import Preprocessing, decode
data = sys.stdin.buffer.read()
def work(number):
    if number % 2:
        decode(data, Preprocessing(8))
    else:
        warnings.warn(f"ours {number}")
warnings.simplefilter("always")
with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(200)))
"""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"
    data = encoded(PICTURE, "JPEG", exif=exif)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).getexif()
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    told = done.stderr.decode()

    assert caught
    assert "PIL" not in told
    assert sum(f"ours {number}\n" in told for number in range(0, 200, 2)) == 100


@pytest.mark.parametrize("type", get_args(ImageErrorType))
def test_errors_survive_pickling(type: ImageErrorType) -> None:
    error = pickle.loads(pickle.dumps(ImageError(type, "why")))

    assert (error.type, str(error)) == (type, "why")

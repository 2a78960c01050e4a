"""What is no still image within the limits is refused, with a typed error, before it costs memory or time."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_files import REASONS, bad_files, png_chunk
from tests.bombs import bombs, many_scans, tiled_tiff
from tests.core.samples import Pixels, animations, encoded, fashion, heic, noise, still_images
from vssl.images.decoding import ImageError, Limits, Preprocessing, decode

SIDE = 8
STILL = still_images() | {"heic": heic(fashion(1)[0])}
ANIMATED = animations() | {"HEIC": heic(*fashion(2))}
MAGIC = [
    b"",
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF....WEBPVP8 ",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P5 2 2 255\n",
]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
"""Pillow warns of some damage before it raises."""


def outcome(data: bytes) -> Pixels | ImageError:
    """What decoding ends in; anything but pixels or a typed refusal fails the test."""
    try:
        pixels = decode(data, Preprocessing(SIDE), Limits(max_pixels=1_000_000))
    except ImageError as error:
        return error
    assert pixels.dtype == np.uint8
    assert pixels.shape == (SIDE, SIDE, 3)
    return pixels


def refusal(data: bytes) -> str:
    """The type of the error that the file is refused with."""
    found = outcome(data)
    assert isinstance(found, ImageError)
    assert str(found)
    return found.type


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_bad_files(name: str, reason: str) -> None:
    assert refusal(bad_files()[name]) == reason


@pytest.mark.parametrize("name", STILL)
def test_every_format_is_read(name: str) -> None:
    assert isinstance(outcome(STILL[name]), np.ndarray)


@pytest.mark.parametrize("name", STILL)
def test_cut_short_anywhere(name: str) -> None:
    data = STILL[name]
    assert all(isinstance(outcome(data[:length]), np.ndarray | ImageError) for length in range(0, len(data), 10))


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "tiff", "deflated", "avif", "heic", "bmp", "pgm"])
def test_half_a_file_is_refused(name: str) -> None:
    """Of a compressed TIFF the directory is gone too, which lies at its end, and of so small an AVIF the header."""
    assert refusal(STILL[name][: len(STILL[name]) // 2]) == "damaged"


@pytest.mark.parametrize("format", ANIMATED)
def test_more_than_one_frame(format: str) -> None:
    assert refusal(ANIMATED[format]) == "animated"


def test_limits_are_inclusive() -> None:
    data = encoded(noise(10, 20), "PNG")

    for fitting in (Limits(max_pixels=200), Limits(max_bytes=len(data))):
        assert decode(data, Preprocessing(SIDE), fitting).shape == (SIDE, SIDE, 3)
    for limits, reason in (
        (Limits(max_pixels=199), "too_many_pixels"),
        (Limits(max_bytes=len(data) - 1), "too_many_bytes"),
    ):
        with pytest.raises(ImageError) as caught:
            decode(data, Preprocessing(SIDE), limits)
        assert caught.value.type == reason


def test_postscript_is_not_handed_to_an_interpreter() -> None:
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n") == "not_an_image"


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n", b"\0" * 64, b"8BPS\0\1"])
def test_other_files(data: bytes) -> None:
    assert refusal(data) == "not_an_image"


def test_what_is_slow_to_decode_is_kept_small() -> None:
    """Pillow would take 25 seconds for the largest file of this kind, and let no other thread run."""
    assert isinstance(outcome(b"P5 100 100 254\n" + bytes(10_000)), np.ndarray)
    assert isinstance(outcome(b"P5 100 100 255\n" + bytes(5_000_000)), np.ndarray)
    assert refusal(b"P5 100 100 254\n" + bytes(5_000_000)) == "too_many_bytes"


def test_what_is_refused_by_its_header_costs_no_memory() -> None:
    """A process of its own, so that its peak is its own."""
    script = """
import json, resource, sys
from vssl.images.decoding import ImageError, Preprocessing, decode
from PIL import Image
Image.init()
reasons, before = {}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in json.load(sys.stdin).items():
    try:
        decode(bytes.fromhex(data), Preprocessing(8))
    except ImageError as error:
        reasons[name] = error.type
    else:
        reasons[name] = "none"
print(json.dumps([reasons, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""
    sent = json.dumps({name: data.hex() for name, data in bombs().items()})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=sent, capture_output=True, text=True, check=True
    )
    reasons, kilobytes = json.loads(done.stdout)

    # A comment is no pixel: the picture is read, and the comment is not unpacked.
    assert reasons == {**dict.fromkeys(bombs(), "too_many_pixels"), "strips": "too_many_bytes", "text": "none"}
    assert kilobytes < 30_000


def test_tiles_and_many_scans_of_an_ordinary_size_are_read() -> None:
    assert isinstance(outcome(tiled_tiff(16)), np.ndarray)
    assert isinstance(outcome(many_scans(side=64, scans=100)), np.ndarray)


@pytest.mark.parametrize("kind", [1, 5, 12, 16, 17])
def test_a_tile_whose_size_is_hidden_in_another_type(kind: int) -> None:
    assert refusal(tiled_tiff(16, kind=kind)) == "damaged"


def test_a_tile_that_has_its_size_twice() -> None:
    assert refusal(tiled_tiff(16, twice=30_000)) == "too_many_pixels"
    assert refusal(tiled_tiff(30_000, twice=16)) == "too_many_pixels"


@given(st.sampled_from(MAGIC), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes(magic: bytes, rest: bytes) -> None:
    assert outcome(magic + rest) is not None


@given(
    st.sampled_from(sorted(STILL | ANIMATED)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    st.floats(0, 1),
)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_images(name: str, changes: list[tuple[float, int]], kept: float) -> None:
    data = bytearray((STILL | ANIMATED)[name])
    for place, value in changes:
        data[int(place * len(data))] = value
    assert outcome(bytes(data)) is not None
    assert outcome(bytes(data[: int(kept * len(data))])) is not None


@given(st.integers(0, 2**16 - 1), st.binary(min_size=0, max_size=12), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_png_chunks_with_right_checksums(place: int, body: bytes, kind: int) -> None:
    """A wrong checksum hides what lies behind it: these get through to the parser of the chunk."""
    names = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"zTXt", b"iTXt", b"pHYs")
    data = STILL["palette"]
    assert outcome(data[:33] + png_chunk(names[kind], body) + data[33:]) is not None


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xe5\x00\x02", b"\xff\x01"])
def test_a_header_of_a_million_segments_is_refused_at_once(filler: bytes) -> None:
    data = b"\xff\xd8" + filler * 1_000_000 + STILL["jpeg"][2:]

    assert refusal(data) == "damaged"


def test_a_header_of_a_thousand_segments_is_read() -> None:
    data = b"\xff\xd8" + b"\xff\xff\xe5\x00\x02" * 1000 + STILL["jpeg"][2:]

    assert isinstance(outcome(data), np.ndarray)

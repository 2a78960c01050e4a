"""HEIC, the format of phones: read by an optional package under all guards, and without it named."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tests.core.images.test_decoding import UPRIGHT
from tests.core.samples import encoded, heic, noise
from vssl.images.decoding import ImageError, Limits, Preprocessing, decode, open_guarded

SMALL = heic(noise(16, 24))


def test_pixels_are_those_of_a_png() -> None:
    pixels = noise(64, 64)
    found = decode(heic(pixels), Preprocessing(64)).astype(int)
    assert np.abs(found - pixels).max() <= 1


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_it_is_turned_once(orientation: int) -> None:
    """The file says its turn twice, as EXIF and for HEIF's own readers; the library turns, and clears EXIF's."""
    pixels, exif = noise(64, 96), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = heic(pixels, exif=exif.tobytes())
    assert b"Exif" in data
    with open_guarded(data) as opened:
        assert opened.size == ((96, 64) if orientation < 5 else (64, 96))
    wanted = decode(encoded(np.ascontiguousarray(UPRIGHT[orientation](pixels)), "PNG"), Preprocessing(48))
    assert np.abs(decode(data, Preprocessing(48)).astype(int) - wanted).max() <= 1


def test_alpha_goes_over_white_and_ten_bits_become_eight() -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 255, 0))
    assert (decode(heic(clear), Preprocessing(8)) >= 254).all()
    deep = pillow_heif.from_bytes("RGB;16", (64, 64), np.full((64, 64, 3), 200 * 257, np.uint16).tobytes())
    file = io.BytesIO()
    deep.save(file, quality=-1)
    assert np.abs(decode(file.getvalue(), Preprocessing(8)).astype(int) - 200).max() <= 1


def test_limits_are_checked_by_the_header() -> None:
    data = heic(noise(64, 64))
    for limits, reason in (
        (Limits(max_pixels=64 * 64 - 1), "too_many_pixels"),
        (Limits(max_bytes=100), "too_many_bytes"),
    ):
        with pytest.raises(ImageError) as caught:
            open_guarded(data, limits)
        assert caught.value.type == reason


def test_more_pixels_than_the_header_says_are_refused() -> None:
    data = bytearray(heic(Image.new("RGB", (600, 600), "teal")))
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", 64, 64)
    with pytest.raises(ImageError, match="exceeds the maximum image size") as caught:
        decode(bytes(data), Preprocessing(8))
    assert caught.value.type == "damaged"


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_damage_ends_in_pixels_or_a_typed_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for place, value in changes:
        data[place] = value
    try:
        found = decode(bytes(data), Preprocessing(8), Limits(max_pixels=10**6))
    except ImageError:
        return
    assert found.shape == (8, 8, 3)


def test_without_the_package_it_is_passed_over_or_named(tmp_path: Path) -> None:
    (tmp_path / "phone.heic").write_bytes(SMALL)
    (tmp_path / "other.png").write_bytes(encoded(noise(4, 4), "PNG"))
    script = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pillow_heif" else find(name, *rest)
sys.modules["pillow_heif"] = None  # an import of it fails now
from vssl.images.decoding import ImageError, Preprocessing, decode
from vssl.sources.opening import open_source
try:
    decode(open(sys.argv[1] + "/phone.heic", "rb").read(), Preprocessing(8))
except ImageError as error:
    print(error.type, error, sep=": ")
source = open_source(sys.argv[1])
print(list(source.paths()), source.passed_over.as_text())
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    named, listed = done.stdout.splitlines()
    assert named.startswith("unsupported_format: HEIC is read with pillow-heif, which is not installed")
    assert "pip install 'vssl[heif]'" in named
    assert listed == "['other.png'] passed over: 1 .heic (pip install 'vssl[heif]' reads them)"

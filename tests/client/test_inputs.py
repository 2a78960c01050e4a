"""Whatever form a picture comes in, it is embedded as its file is."""

import asyncio
import base64
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.client.conftest import pictures
from tests.core.samples import encoded, noise, raw_pgm, raw_tiff, still_images
from vssl.bundle.reading import Bundle
from vssl_client import AsyncClient, Client, ImageRejected
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.inputs import Pixmap, check_list, decode_all, snapshot
from vssl_client.inputs import encoded as as_file

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
FILES = still_images() | {
    "16-bit TIFF, zero is white": raw_tiff(256, 256, RAMP.astype("<u2").tobytes(), (16,), 0),
    "16-bit PGM": raw_pgm(RAMP, 65535),
    "16-bit PNG": encoded(Image.fromarray(RAMP), "PNG"),
    "CMYK TIFF": encoded(Image.fromarray(noise(16, 16)).convert("CMYK"), "TIFF"),
    "JPEG without its end": encoded(noise(16, 16), "JPEG")[:-2],
    "RGBA": encoded(np.dstack([noise(16, 16), noise(16, 16, 1)[..., 0]]), "PNG"),
}


def seen(image: Any, bundle: Bundle) -> npt.NDArray[np.uint8]:
    """The pixels that the model is given."""
    pixels, errors = decode_all([as_file(snapshot(image, 0))], bundle.manifest.preprocessing)
    assert errors == [None]
    return pixels


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_pil_image_is_seen_as_its_own_file(name: str, loaded: bool, tiny_bundle: Bundle) -> None:
    image = Image.open(io.BytesIO(FILES[name]))
    if loaded and name != "JPEG without its end":  # which pillow does not load
        image.load()

    np.testing.assert_array_equal(seen(image, tiny_bundle), seen(FILES[name], tiny_bundle))
    np.testing.assert_array_equal(seen(image, tiny_bundle), seen(FILES[name], tiny_bundle))  # it is not changed


def test_pil_images_of_files_that_are_gone_or_half(tmp_path: Path, client: Client) -> None:
    """A truncated one is told of as its file is, and its neighbours are embedded."""
    good, half = tmp_path / "good.jpg", tmp_path / "half.jpg"
    good.write_bytes(encoded(noise(64, 64), "JPEG"))
    half.write_bytes(good.read_bytes()[:1500])
    with Image.open(good) as first, Image.open(half) as second, Image.open(good) as third:
        images = [first, second, third]
        result = client.embed(images, on_error="return")

        assert result.ok.tolist() == [True, False, True]
        assert result.errors[1] is not None
        assert result.errors[1].type == "damaged"
        assert len(client.embed(images, on_error="skip")) == 2
        with pytest.raises(ImageRejected):
            client.embed(images)


def test_forms_of_a_file(tmp_path: Path, client: Client) -> None:
    data = pictures(1)[0]
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    with path.open("rb") as file:
        result = client.embed([path, data, bytearray(data), memoryview(data), io.BytesIO(data), file, url])

    np.testing.assert_array_equal(result.embedding, np.repeat(result.embedding[:1], 7, axis=0))
    assert result.names == [str(path)] + [None] * 6


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays(channels: int | None, dtype: type, tiny_bundle: Bundle) -> None:
    shape = (20, 30) if channels is None else (20, 30, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    file = encoded(pixels[..., 0] if channels == 1 else pixels, "PNG")
    given = pixels if dtype is np.uint8 else (pixels / 255).astype(dtype)

    np.testing.assert_array_equal(seen(given, tiny_bundle), seen(file, tiny_bundle))
    np.testing.assert_array_equal(seen(given[:, ::-1], tiny_bundle), seen(np.array(given[:, ::-1]), tiny_bundle))


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
def test_tensors(channels: int | None, dtype: str, tiny_bundle: Bundle) -> None:
    torch = pytest.importorskip("torch")
    shape = (20, 30) if channels is None else (channels, 20, 30)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    if dtype == "bfloat16":  # it keeps 8 bits: of these values, all
        pixels = pixels // 2 * 2
    given = pixels if dtype == "uint8" else (pixels / 255).to(getattr(torch, dtype)).requires_grad_()
    array = pixels.numpy() if channels is None else pixels.permute(1, 2, 0).numpy()
    levels = 1 if dtype == "bfloat16" else 0

    difference = seen(given, tiny_bundle).astype(int) - seen(np.ascontiguousarray(array), tiny_bundle)
    assert np.abs(difference).max() <= levels


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (np.zeros((4, 4, 2), np.uint8), "C = 1, 3 or 4"),
        (np.zeros((0, 4, 3), np.uint8), "C = 1, 3 or 4"),
        (np.zeros(4, np.uint8), "C = 1, 3 or 4"),
        (np.zeros((4, 4, 3), np.int64), "uint8, or floats in 0 … 1"),
        (np.full((4, 4, 3), 255.0), "0 … 1"),
        (np.full((4, 4, 3), -0.5), "0 … 1"),
        (np.full((4, 4, 3), np.nan), "0 … 1"),
        (io.StringIO("text"), "'rb'"),
        (17, "give a path"),
        (None, "give a path"),
    ],
)
def test_what_is_no_picture_is_told_what_is_wanted(image: object, wanted: str) -> None:
    with pytest.raises(TypeError, match=r"image 3 .*" + wanted):
        snapshot(image, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["data:,hello", "data:image/png;base64,%%%", "data:image/png;base64"])
def test_a_data_url_that_is_none(url: str, client: Client) -> None:
    result = client.embed([url, pictures(1)[0]], on_error="return")

    assert result.ok.tolist() == [False, True]
    assert "data URL" in str(result.errors[0])


@pytest.mark.parametrize(
    "single",
    ["a.png", b"1", bytearray(b"1"), memoryview(b"1"), io.BytesIO(b"1"), Image.new("L", (1, 1)), np.zeros((2, 2, 3))],
)
def test_a_single_image_is_no_list(single: Any) -> None:
    with pytest.raises(TypeError, match="list"):
        check_list(single)


def test_pixels_are_never_packed_and_may_be_larger_than_any_file(
    client: Client, local: LocalEmbedder, tiny_bundle: Bundle
) -> None:
    """12 megapixels are 36 MB, more than a server takes in one request: what the model looks at is sent."""
    coarse = Image.fromarray(noise(8, 8)).resize((4000, 3000))
    large = np.asarray(coarse)
    taken = snapshot(large, 0)
    here, there = local.embed_batch([as_file(taken)]), client.embed([pictures(1)[0], large, pictures(1)[0]])

    assert isinstance(taken, Pixmap)
    assert len(taken) == large.nbytes + len(b"P6 4000 3000 255\n")
    np.testing.assert_allclose(here.embedding[0], there.embedding[1], atol=1e-6)
    np.testing.assert_allclose(
        here.embedding, local.embed_batch([encoded(coarse, "PNG", compress_level=1)]).embedding, atol=1e-6
    )


def test_nothing_is_read_or_decoded_in_the_event_loops_thread(server: str) -> None:
    """By the threads that open files are read in, and in which the copies of pictures and tensors are made."""
    threads = set[threading.Thread]()

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threads.add(threading.current_thread())
            return super().read(size)

    class WatchedPicture(Image.Image):
        def tobytes(self, *more: Any) -> bytes:
            threads.add(threading.current_thread())
            return super().tobytes(*more)

    data = pictures(1)[0]
    lazy, loaded = Image.open(Watched(data)), Image.new("RGB", (30, 20), "teal")
    loaded.__class__ = WatchedPicture
    threads.clear()

    async def embed() -> int:
        async with AsyncClient(server) as client:
            return len(await client.embed([Watched(data), lazy, loaded]))

    assert asyncio.run(embed()) == 3
    assert threads
    assert threading.main_thread() not in threads

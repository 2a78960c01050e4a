"""The SDK against a real server, beside the engine in process: every form of image, order, errors, limits."""

import asyncio
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import vssl_client
from tests.bad_files import REASONS, bad_files
from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import proxied, serving
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.engine import Engine
from vssl.errors import UsageError, VsslError
from vssl.images.decoding import DEFAULT_LIMITS, Limits, decode
from vssl.memory import cores
from vssl.sources.opening import open_source
from vssl_client import (
    AsyncClient,
    Client,
    ClientError,
    ConnectionFailed,
    EmbeddingResult,
    ImageRejected,
    RequestRejected,
)
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.embedding.stream import embed_images
from vssl_client.folder.job import embed_source
from vssl_client.inputs import ImageInput


@pytest.fixture(params=["http", "in process"])
def embedder(request: pytest.FixtureRequest, client: Client, local: LocalEmbedder) -> Embedder:
    return client if request.param == "http" else local


def pixels(file: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_both_roads_give_what_the_engine_gives(embedder: Embedder, tiny_bundle: Bundle) -> None:
    images = pictures(200)
    result = embed_images(embedder, images)
    assert_same(result, oracle(tiny_bundle, images))
    assert result.errors == [None] * 200
    assert (result.percentile, result.confidence, result.flags) == (None, None, None)
    assert (result.model, result.version) == ("tiny", "1")


def test_both_roads_tell_the_same_model(client: Client, local: LocalEmbedder, tiny_bundle: Bundle) -> None:
    assert client.model() == local.model()
    assert client.model().id == tiny_bundle.manifest.id
    assert (client.model().dimension, client.model().size) == (16, 32)


def test_every_form_of_an_image_gives_the_same_row(embedder: Embedder, tiny_bundle: Bundle, tmp_path: Path) -> None:
    file = pictures(1)[0]
    path = tmp_path / "a picture.png"
    path.write_bytes(file)
    with Image.open(path) as picture:
        forms: list[ImageInput] = [file, path, str(path), picture, pixels(file)]
        assert_same(embed_images(embedder, forms), oracle(tiny_bundle, [file] * len(forms)))


def test_one_array_of_many_images_is_taken_apart(client: Client, tiny_bundle: Bundle) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    assert_same(client.embed(images), Engine(tiny_bundle)(images))


def test_an_iterator_may_reuse_its_array_and_its_image(client: Client, tiny_bundle: Bundle) -> None:
    files = pictures(100)
    frames = np.stack([pixels(file)[:8, :8] for file in files])

    def same_array() -> Iterator[npt.NDArray[np.uint8]]:
        buffer = np.empty((8, 8, 3), np.uint8)
        for frame in frames:
            buffer[:] = frame
            yield buffer

    def same_image() -> Iterator[Image.Image]:
        canvas = Image.new("RGB", (8, 8))
        for frame in frames:
            canvas.paste(Image.fromarray(frame))
            yield canvas

    separate = client.embed(list(frames))
    np.testing.assert_array_equal(client.embed(same_array()).embedding, separate.embedding)
    np.testing.assert_array_equal(client.embed(same_image()).embedding, separate.embedding)


def test_an_opened_picture_is_turned_like_its_file(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "sideways.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(pictures(1)[0])).save(path, exif=exif, quality=95)
    with Image.open(path) as picture:
        from_file, from_picture = client.embed([path, picture]).embedding
    np.testing.assert_array_equal(from_file, from_picture)


def test_an_iterator_is_read_only_as_far_as_memory_is_bounded(client: Client) -> None:
    file = pictures(1)[0]
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield file if taken != 200 else b"not a picture"

    with pytest.raises(ImageRejected) as caught:
        client.embed(endless())
    assert caught.value.index == 199
    assert taken < 2000


def test_bad_images_get_their_own_error_and_cost_nobody_else(embedder: Embedder, tiny_bundle: Bundle) -> None:
    good = pictures(70)
    bad = bad_files()
    images = [*good[:30], *bad.values(), *good[30:]]
    result = embed_images(embedder, images, on_error="return")
    errors = [error for error in result.errors if error is not None]
    assert [error.type for error in errors] == [REASONS[name] for name in bad]
    assert [error.index for error in errors] == list(range(30, 30 + len(bad)))
    assert np.isnan(result.embedding[~result.ok]).all()
    assert np.isnan(result.uncertainty[~result.ok]).all()
    expected = oracle(tiny_bundle, good)
    np.testing.assert_allclose(result.embedding[result.ok], expected.embedding, atol=1e-6)


def test_only_bad_images_still_have_rows_of_the_right_width(embedder: Embedder) -> None:
    result = embed_images(embedder, [b"", b"text"], on_error="return")
    assert result.embedding.shape == result.variance.shape == (2, 16)
    assert not result.ok.any()


def test_a_batch_of_only_bad_images_joins_the_others(embedder: Embedder, tiny_bundle: Bundle) -> None:
    good = pictures(3)
    result = embed_images(embedder, [*[b""] * 100, *good], on_error="return")
    assert result.ok.tolist() == [False] * 100 + [True] * 3
    assert np.isnan(result.variance[:100]).all()
    np.testing.assert_allclose(result.embedding[100:], oracle(tiny_bundle, good).embedding, atol=1e-6)


def test_no_images_give_no_rows(embedder: Embedder) -> None:
    result = embed_images(embedder, [])
    assert result.embedding.shape == (0, 16)
    assert len(result) == 0


def test_a_bad_image_is_raised_with_its_place_and_name(embedder: Embedder, tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    with pytest.raises(ImageRejected, match=r"missing.png: unreadable: No such file") as caught:
        embed_images(embedder, [*pictures(3), missing])
    assert (caught.value.index, caught.value.name) == (3, str(missing))
    assert isinstance(caught.value, ClientError)
    assert isinstance(caught.value, VsslError)


@pytest.mark.parametrize("one", ["cat.jpg", b"bytes", Path("cat.jpg"), np.zeros((8, 8, 3), np.uint8)])
def test_a_single_image_is_no_list(client: Client, one: object) -> None:
    with pytest.raises(TypeError, match=r"list of images"):
        client.embed(one)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "thing", [None, 3, np.ones((8, 8, 3), int), np.zeros((8, 8, 2), np.uint8), np.zeros((0, 8, 3), np.uint8)]
)
def test_what_is_no_image_is_a_type_error(client: Client, thing: object) -> None:
    with pytest.raises(TypeError, match=r"image 1 is"):
        client.embed([pictures(1)[0], thing], on_error="return")  # type: ignore[list-item]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", ""])
def test_an_address_that_is_none_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match=r"address"):
        Client(url)


def test_a_server_that_is_not_there_is_named(impatient: None) -> None:
    with (
        Client("http://127.0.0.1:9", retries=2) as client,
        pytest.raises(ConnectionFailed, match=r"127.0.0.1:9.*running"),
    ):
        client.embed(pictures(1))


def test_a_server_under_a_wrong_path_rejects(server: str) -> None:
    with Client(f"{server}/elsewhere") as client, pytest.raises(RequestRejected, match=r"404") as caught:
        client.model()
    assert caught.value.status == 404


def test_batches_shrink_to_what_the_server_takes(tiny_bundle: Bundle) -> None:
    images = pictures(90)
    huge = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(huge, "PNG")
    flags = ["--max-images", "10", "--queue-images", "1000", "--max-body-bytes", "60000"]
    with serving(tiny_bundle.location, *flags) as url, Client(url) as client:
        result = client.embed([*images, huge.getvalue()], on_error="return")
    assert result.ok.tolist() == [True] * 90 + [False]
    assert result.errors[90] is not None
    assert result.errors[90].type == "too_many_bytes"
    np.testing.assert_allclose(result.embedding[:90], oracle(tiny_bundle, images).embedding, atol=1e-6)


def test_a_busy_server_is_asked_again(tiny_bundle: Bundle, impatient: None) -> None:
    images = pictures(300)
    with serving(tiny_bundle.location, "--max-images", "64", "--queue-images", "64") as url, Client(url) as client:
        assert_same(client.embed(images), oracle(tiny_bundle, images))


def test_a_model_is_chosen_by_name_where_a_server_has_several(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", name="other", seed=1)
    images = pictures(3)
    with serving(tiny_bundle.location, str(other.location)) as url:
        for model, bundle in ((None, tiny_bundle), ("tiny", tiny_bundle), ("other", other)):
            with Client(url, model=model) as client:
                assert client.model().id == bundle.manifest.id
                assert_same(client.embed(images), oracle(bundle, images))
        with Client(url, model="third") as client, pytest.raises(UsageError, match=r"no model 'third'.*tiny, other"):
            client.model()
        with Client(url, model="third") as client, pytest.raises(RequestRejected, match="third"):
            client.embed(images)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of more than 32 MiB, less than the server takes."""
    path = tmp_path_factory.mktemp("heavy") / "one" / "large.bmp"
    path.parent.mkdir()
    Image.new("RGB", (3800, 3000), "teal").save(path)
    assert path.stat().st_size > DEFAULT_LIMITS.max_bytes
    return path


@pytest.mark.parametrize("options", [{}, {"resize_locally": True}])
def test_an_image_may_be_as_large_as_the_server_takes(
    options: dict[str, Any], server: str, tiny_bundle: Bundle, heavy: Path
) -> None:
    limits = Limits(max_bytes=2**30)
    pixels = decode(heavy.read_bytes(), tiny_bundle.manifest.preprocessing, limits)
    expected = Engine(tiny_bundle)(np.stack([pixels]))
    with Client(server, **options) as client:
        assert client.max_image_bytes() > DEFAULT_LIMITS.max_bytes
        assert_same(client.embed([heavy]), expected)

    async def run() -> EmbeddingResult:
        async with AsyncClient(server, **options) as client:
            return await client.embed([heavy])

    assert_same(asyncio.run(run()), expected)


def test_an_option_says_how_large_an_image_may_be(server: str, tiny_bundle: Bundle, heavy: Path) -> None:
    file = heavy.with_name("small.png")
    for options in ({"url": server}, {"bundle": str(tiny_bundle.location)}):
        with Client(**options, max_image_bytes=2**26) as client:  # type: ignore[arg-type]
            assert client.embed([heavy]).ok.all()
        with Client(**options, max_image_bytes=2**25 + 1) as client:  # type: ignore[arg-type]
            file.write_bytes(pictures(1)[0])
            result = client.embed([heavy, file], on_error="return")
            assert [error and error.type for error in result.errors] == ["too_many_bytes", None]


def test_a_job_embeds_what_the_server_takes(client: Client, heavy: Path, tmp_path: Path) -> None:
    summary = embed_source(open_source(str(heavy.parent)), tmp_path / "out", client, format="npz")
    assert (summary.failed, summary.embedded >= 1) == (0, True)


def test_a_bundle_runs_in_this_process(tiny_bundle: Bundle, tmp_path: Path) -> None:
    images = pictures(3)
    for location in (tiny_bundle.location, str(tiny_bundle.location)):
        with Client(bundle=location) as client:
            assert_same(client.embed(images), oracle(tiny_bundle, images))
            assert client.in_flight == cores() + 1
            assert repr(client) == f"Client(bundle='{tiny_bundle.location}')"
    with pytest.raises(UsageError, match="no model in int8; there are fp32"):
        Client(bundle=tiny_bundle.location, precision="int8")
    with pytest.raises(UsageError, match="no such bundle"):
        Client(bundle=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="one of the two"):
        Client("http://127.0.0.1:9", bundle=tiny_bundle.location)


def test_a_closed_client_says_so(server: str, tiny_bundle: Bundle) -> None:
    for client in (Client(server), Client(bundle=tiny_bundle.location)):
        with client:
            client.model()
        client.close()
        with pytest.raises(UsageError, match="closed"):
            client.embed(pictures(1))


def test_what_is_under_way_when_a_client_is_closed_gets_its_answer(server: str, tiny_bundle: Bundle) -> None:
    images = pictures(3)
    with proxied(server) as (proxy, url), ThreadPoolExecutor(1) as pool:
        closed = threading.Event()

        def edit(_: str, body: bytes) -> bytes:
            closed.wait(60)
            return body

        proxy.edit = edit
        client = Client(url)
        waiting = pool.submit(client.embed, images)
        proxy.seen.get()
        client.close()
        closed.set()
        assert_same(waiting.result(), oracle(tiny_bundle, images))


def test_public_names_are_listed_and_there() -> None:
    assert set(vssl_client.__all__) <= set(dir(vssl_client))
    for name in vssl_client.__all__:
        assert getattr(vssl_client, name) is not None
    with pytest.raises(AttributeError, match="Klient"):
        _ = vssl_client.Klient

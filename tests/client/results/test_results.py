"""What comes back from embedding: rows that keep their shape, their errors and their reasons."""

import copy
import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import serving
from vssl.bundle.reading import Bundle
from vssl.errors import BundleError, UsageError, VsslError
from vssl.images.decoding import ImageError
from vssl_client import (
    BadAnswer,
    Client,
    ClientError,
    ConnectionFailed,
    EmbeddingResult,
    ImageRejected,
    ModelChanged,
    Overloaded,
    RequestRejected,
    ServerFailed,
)
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.embedding.stream import stream_images
from vssl_client.formats.contract import open_format
from vssl_client.results.assembly import Numbers, Provenance, filled


@pytest.fixture(params=["http", "in process"])
def embedder(request: pytest.FixtureRequest, client: Client, local: LocalEmbedder) -> Embedder:
    return client if request.param == "http" else local


def noise() -> bytes:
    """A file that is larger than the pixels that the model looks at."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def small_bodies(tiny_bundle: Bundle) -> Iterator[str]:
    """A server that takes no body as large as the pixels of one image."""
    with serving(tiny_bundle.location, "--max-body-bytes", "2500") as url:
        yield url


def test_pixels_that_the_server_finds_too_large_are_told_as_failed(small_bodies: str) -> None:
    large = [noise(), noise()]
    with Client(small_bodies, resize_locally=True) as client:
        result = client.embed([*large, b"x" * 9000], on_error="return")
    assert [error and error.type for error in result.errors] == ["too_many_bytes"] * len(large) + ["not_an_image"]
    assert np.isnan(result.embedding).all()


def test_the_tiny_models_rows_keep_their_calibration_when_resized() -> None:
    pytest.importorskip("onnxruntime")
    images = pictures(3)
    with Client(bundle="builtin:tiny") as plain, Client(bundle="builtin:tiny", resize_locally=True) as resizing:
        expected, result = plain.embed(images), resizing.embed([*images, b"x" * 10**6], on_error="return")
    np.testing.assert_allclose(result.embedding[:3], expected.embedding, atol=1e-5)
    assert result.flags is not None
    assert expected.percentile is not None
    assert result.percentile is not None
    np.testing.assert_allclose(result.percentile[:3], expected.percentile, atol=1e-3)
    assert result.ok.tolist() == [True] * 3 + [False]


@pytest.mark.parametrize("name", ["embedding", "variance", "uncertainty"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_never_told_as_good(name: str, value: float) -> None:
    rows = {"embedding": np.eye(3, 4), "variance": np.ones((3, 4)), "uncertainty": np.arange(3)}
    arrays = {key: of.astype(np.float32) for key, of in rows.items()}
    arrays[name][1, ..., None] = value
    flags = {"ood": np.array([True, True, False])}
    empty = ImageRejected("empty", "0 bytes")
    embedding, variance, uncertainty = arrays.values()
    result = filled(
        [None, empty, None, None],
        Provenance("m", "1"),
        Numbers(embedding, variance, uncertainty, uncertainty, None, flags),
    )
    assert [error and error.type for error in result.errors] == [None, "empty", "not_finite", None]
    np.testing.assert_array_equal(np.isnan(result.embedding).all(1), ~result.ok)
    assert result.flags is not None
    assert result.flags["ood"].tolist() == [True, False, False, False]


def test_a_stream_keeps_its_shape_when_a_whole_batch_fails(embedder: Embedder, tiny_bundle: Bundle) -> None:
    good = pictures(64)
    batches = list(stream_images(embedder, [*[b"text"] * 64, *good], "return"))
    assert [batch.embedding.shape for batch in batches] == [(64, 16), (64, 16)]
    assert_same(batches[1], oracle(tiny_bundle, good))
    skipped = list(stream_images(embedder, [b"text"] * 64, "skip"))
    assert [batch.variance.shape for batch in skipped] == [(0, 16)]


ERRORS: list[Exception] = [
    VsslError("a"),
    UsageError("a"),
    BundleError("a"),
    ClientError("a"),
    ConnectionFailed("a"),
    BadAnswer("a"),
    ModelChanged("a"),
    Overloaded("a", 429, 2.5),
    ServerFailed("a", 500),
    RequestRejected("a", 422, "type", "code"),
    ImageRejected("damaged", "a", 3, "b.png"),
    ImageError("damaged", "a"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_a_journey_between_processes(error: Exception) -> None:
    if isinstance(error, ClientError):
        error.request_id = "abc"
    for found in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert vars(found) == vars(error)


def some(client: Client) -> EmbeddingResult:
    """Five rows, the third of which failed."""
    return client.embed([*pictures(2), b"text", *pictures(2, seed=1)], on_error="return")


def test_rows_are_taken_by_number_slice_mask_or_list(client: Client) -> None:
    result = some(client)
    for chosen in (slice(2), slice(None, None, -2), result.ok, [4, 2], np.array([0]), [], ~result.ok):
        part, rows = result[chosen], np.arange(5)[chosen]
        assert part.index.tolist() == rows.tolist()
        np.testing.assert_array_equal(part.embedding, result.embedding[rows])
        assert part.errors == [result.errors[row] for row in rows]
        assert part.bundle_id == result.bundle_id
    for row, one in enumerate(result):
        for same in (one, result[row], result[row - 5], result[np.int64(row)]):
            assert same.index == row
            np.testing.assert_array_equal(same.variance, result.variance[row])
            assert same.error is result.errors[row]
            assert same.ok == result.ok[row]
    assert len(list(result)) == 5
    for wrong in (5, np.array([True])):
        with pytest.raises(IndexError):
            result[wrong]


def test_results_can_be_compared_changed_and_put_into_sets(client: Client) -> None:
    result = some(client)
    assert result == result
    assert result != some(client)
    assert len({result, result[:2]}) == 2
    for batch in (result, result[:2], next(client.stream(pictures(1)))):
        for values in (batch.embedding, batch.variance, batch.uncertainty, batch.index):
            values[:] = 0


def test_a_result_is_shown_in_a_few_words(client: Client, tmp_path: Path) -> None:
    (tmp_path / "<b>.png").write_bytes(pictures(1)[0])
    result = client.embed([tmp_path / "<b>.png", b"text", *pictures(30)], on_error="return")
    assert repr(result) == "EmbeddingResult(32 images, 1 failed, D=16, model 'tiny' version 1)"
    assert repr(result[1]).startswith("ImageEmbedding(image 1, not_an_image: ")
    assert repr(result[0]).startswith(f"ImageEmbedding('{tmp_path}/<b>.png', D=16, uncertainty ")
    page = result._repr_html_()
    assert "&lt;b&gt;.png" in page
    assert "<b>" not in page
    assert "not_an_image" in page
    assert "… and 22 more" in page


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".jsonl"])
def test_a_result_is_saved_like_a_part(suffix: str, client: Client, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "a.png").write_bytes(pictures(1)[0])
    result = client.embed([tmp_path / "a.png", b"text"], on_error="return")
    file = tmp_path / f"part-000000{suffix}"
    result.save(str(file))
    result.save(file)
    format = open_format(file.suffix[1:])  # type: ignore[arg-type]
    part = format.read_part(file, ["path", "error"])
    assert (part["path"], [bool(error) for error in part["error"]]) == ([str(tmp_path / "a.png"), "1"], [False, True])
    assert {path.name for path in tmp_path.iterdir()} <= {"a.png", file.name, ".part-000000.heads"}
    assert (format.read_origin(file).model, format.read_origin(file).dimension) == ("tiny", 16)
    with pytest.raises(UsageError, match=r"must end in \.parquet"):
        result.save(tmp_path / "rows.csv")


def test_a_result_becomes_a_table_and_a_data_frame(client: Client) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    result = some(client)
    table, frame = result.to_arrow(), result[::-1].to_pandas()
    assert table["embedding"].null_count == 1
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 16)
    np.testing.assert_array_equal(vectors, result.embedding[result.ok])
    assert frame.index.tolist() == [4, 3, 2, 1, 0]
    np.testing.assert_array_equal(np.stack(frame.loc[[0, 1, 2, 3, 4], "embedding"]), result.embedding)
    assert list(frame) == ["path", "uncertainty", "error", "embedding", "variance"]
    assert frame["error"].notna().tolist() == [False, False, True, False, False]

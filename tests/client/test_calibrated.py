"""A calibrated bundle says the same in this process and through a server, in results and in Parquet."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.client.conftest import oracle, pictures
from tests.client.processes import serving, vssl
from vssl.bundle.reading import Bundle
from vssl.uncertainty.calibrated import NUMBERS, CalibratedUncertainty, apply_calibration
from vssl.uncertainty.familiarity import references_of
from vssl_client import Client, EmbeddingResult
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.embedding.stream import embed_images
from vssl_client.parts.stored import StoredEmbeddings, read_embeddings

FILES = pictures(12)


@pytest.fixture(scope="module")
def url(calibrated_bundle: Bundle) -> Iterator[str]:
    with serving(calibrated_bundle.location) as url:
        yield url


@pytest.fixture(scope="module")
def truth(calibrated_bundle: Bundle) -> CalibratedUncertainty:
    assert calibrated_bundle.manifest.calibration is not None
    references = references_of(calibrated_bundle)
    found = apply_calibration(calibrated_bundle.manifest.calibration, oracle(calibrated_bundle, FILES), references)
    assert set(found.flags["degraded"].tolist()) == {True, False}
    return found


def assert_says(result: EmbeddingResult | StoredEmbeddings, truth: CalibratedUncertainty) -> None:
    assert truth.confidence is not None
    assert truth.familiarity is not None
    assert result.percentile is not None
    assert result.confidence is not None
    assert result.familiarity is not None
    assert result.flags is not None
    # The uncertainties themselves agree to 1e-5, as additions in batches of other sizes do.
    np.testing.assert_allclose(result.percentile, truth.percentile, atol=0.01)
    np.testing.assert_allclose(result.confidence, truth.confidence, atol=1e-4)
    np.testing.assert_allclose(result.familiarity, truth.familiarity, atol=0.005)  # one of 200 references
    for name, values in truth.flags.items():
        np.testing.assert_array_equal(result.flags[name], values)


def test_in_this_process_and_through_a_server(
    calibrated_bundle: Bundle, url: str, truth: CalibratedUncertainty
) -> None:
    with LocalEmbedder(calibrated_bundle) as embedder:
        here = embed_images(embedder, FILES)
    with Client(url) as client:
        there = client.embed(FILES)
    assert_says(here, truth)
    assert_says(there, truth)
    for name in NUMBERS:
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


def test_parquet_written_either_way(
    calibrated_bundle: Bundle, url: str, truth: CalibratedUncertainty, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, data in enumerate(FILES):
        (folder / f"{number:02}.png").write_bytes(data)
    (folder / "99.png").write_bytes(b"no image")
    vssl("embed", folder, "-o", tmp_path / "here", "--bundle", calibrated_bundle.location, "-q", status=1)
    vssl("embed", folder, "-o", tmp_path / "there", "--url", url, "-q", status=1)
    for name in ("here", "there"):
        stored = read_embeddings(tmp_path / name)
        assert len(stored.failures) == 1
        assert_says(stored, truth)

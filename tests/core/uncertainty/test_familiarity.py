"""Familiarity against scikit-learn's neighbours, and its calibration on images of the same kind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from tests.tiny_model import DIMENSION, tiny_calibration, write_tiny_bundle
from vssl.bundle.calibration_record import Familiarity
from vssl.engine import Embeddings
from vssl.errors import BundleError
from vssl.uncertainty.calibrated import apply_calibration
from vssl.uncertainty.familiarity import FILE, References, kept_references, references_of


def vectors(count: int, seed: int = 0, shift: float = 1.0) -> Any:
    """Unit vectors [count, 16] on one side of the sphere."""
    points = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    points[:, 0] += shift
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_it_is_the_rank_of_the_mean_cosine_to_the_nearest() -> None:
    known, asked = vectors(200), vectors(50, seed=1)
    search = NearestNeighbors(n_neighbors=11, metric="cosine").fit(known)
    of_known = 1 - search.kneighbors(known)[0][:, 1:].mean(axis=1)  # the first is the vector itself
    of_asked = 1 - search.kneighbors(asked, 10)[0].mean(axis=1)
    expected = (of_known[None] < of_asked[:, None]).mean(axis=1)
    found = References(known).familiarity(asked)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.005)  # float32 may turn a tie of two references round


def test_images_of_the_same_kind_are_spread_evenly_and_others_are_flagged() -> None:
    references = References(vectors(1000, shift=2.0))
    same, other = (references.familiarity(vectors(4000, seed=2, shift=shift)) for shift in (2.0, -4.0))
    np.testing.assert_allclose(np.quantile(same, [0.01, 0.1, 0.5, 0.9]), [0.01, 0.1, 0.5, 0.9], atol=0.03)
    assert (other < 0.01).mean() > 0.99


@pytest.mark.parametrize(
    ("count", "dimension", "kept"), [(127, 16, 0), (128, 16, 128), (5000, 16, 1000), (1000, 1024, 512), (200, 5000, 0)]
)
def test_a_bundle_keeps_128_to_1000_in_at_most_a_megabyte(count: int, dimension: int, kept: int) -> None:
    record, files = kept_references(np.ones((count, dimension), np.float32))
    assert (0 if record is None else record.images) == kept
    assert sum(map(len, files.values())) == 2 * kept * dimension <= 2**20


def test_a_bundle_answers_by_the_vectors_that_it_keeps(tmp_path: Path) -> None:
    known, asked = vectors(300), vectors(20, seed=3, shift=-0.5)
    record, files = kept_references(known)
    assert record is not None
    calibration = tiny_calibration() | {"familiarity": record.model_dump()}
    bundle = write_tiny_bundle(tmp_path / "bundle", calibration=calibration, files=files)
    assert bundle.manifest.calibration is not None
    answer = Embeddings(asked, np.ones_like(asked), np.zeros(len(asked), np.float32))
    found = apply_calibration(bundle.manifest.calibration, answer, references_of(bundle))
    assert found.familiarity is not None
    np.testing.assert_allclose(found.familiarity, References(known).familiarity(asked), atol=0.01)
    assert found.flags["unfamiliar"].tolist() == (found.familiarity < 0.01).tolist()
    assert len(set(found.flags["unfamiliar"].tolist())) == 2
    without = apply_calibration(bundle.manifest.calibration, answer)
    assert without.familiarity is None
    assert not without.flags["unfamiliar"].any()


@pytest.mark.parametrize(
    ("images", "k", "data"),
    [
        (200, 10, b"\0" * 2 * 199 * DIMENSION),
        (200, 10, b"\0\x7c" * 200 * DIMENSION),  # infinite
        (10, 10, b"\0" * 2 * 10 * DIMENSION),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, images: int, k: int, data: bytes) -> None:
    record = Familiarity(file=FILE, images=images, k=k)
    calibration = tiny_calibration() | {"familiarity": record.model_dump()}
    with pytest.raises(BundleError, match=r"familiarity\.f16"):
        references_of(write_tiny_bundle(tmp_path / "bundle", calibration=calibration, files={FILE: data}))

"""A calibration applied, and what the manifest refuses as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_model import tiny_calibration, write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings
from vssl.errors import BundleError
from vssl.uncertainty.calibrated import apply_calibration

UNCERTAINTY = np.array([-9.0, -3.3, -3.125, -2.95, -2.92, -2.89, -2.85, 5.0], np.float32)


def answer(uncertainty: Any) -> Embeddings:
    vectors = np.ones((len(uncertainty), 16), np.float32)
    return Embeddings(vectors, vectors, uncertainty)


def test_words_follow_from_the_tables(calibrated_bundle: Bundle) -> None:
    calibration = calibrated_bundle.manifest.calibration
    assert calibration is not None
    found = apply_calibration(calibration, answer(UNCERTAINTY))
    np.testing.assert_allclose(found.percentile, [0, 0, 35, 70, 74.5, 79, 85, 100], atol=0.01)
    assert found.flags["degraded"].tolist() == [False, False, False, False, True, True, True, True]
    assert found.flags["ood"].tolist() == [False, False, False, False, False, False, True, True]
    assert found.confidence is not None
    np.testing.assert_allclose(found.confidence, [0.9, 0.9, 0.75, 0.6, 0.552, 0.504, 0.44, 0.2], atol=1e-3)
    assert found.percentile.dtype == found.confidence.dtype == np.float32


def test_another_pattern_of_variances_is_of_another_kind(tmp_path: Path) -> None:
    pattern = {"directions": [[1.0] + [0.0] * 15, [0.0] * 15 + [2.0]], "threshold": 4.0}
    bundle = write_tiny_bundle(tmp_path / "patterned", calibration=tiny_calibration() | {"novelty": pattern})
    assert bundle.manifest.calibration is not None
    log_variance = np.full((4, 16), -3.0, np.float32)
    log_variance[1:, 0] += [1.9, -2.1, 1.5]
    log_variance[3, 15] += 0.8
    found = Embeddings(log_variance, np.exp(log_variance), np.full(4, -3, np.float32))
    assert apply_calibration(bundle.manifest.calibration, found).flags["ood"].tolist() == [False, False, True, True]
    found.uncertainty[0] = -2.8
    assert apply_calibration(bundle.manifest.calibration, found).flags["ood"].tolist() == [True, False, True, True]


def test_without_labels_there_is_no_confidence(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "unlabelled", calibration=tiny_calibration(labelled=False))
    assert bundle.manifest.calibration is not None
    assert apply_calibration(bundle.manifest.calibration, answer(UNCERTAINTY)).confidence is None


def test_the_id_covers_the_calibration(tiny_bundle: Bundle, calibrated_bundle: Bundle) -> None:
    assert tiny_bundle.manifest.calibration is None
    assert calibrated_bundle.manifest.files["model.onnx"] == tiny_bundle.manifest.files["model.onnx"]
    assert calibrated_bundle.manifest.id != tiny_bundle.manifest.id


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"percentile": {"x": [1.0, 0.0], "y": [0.0, 1.0]}}, "calibration.percentile"),
        ({"percentile": {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0]}}, "calibration.percentile"),
        ({"log_variance_mean": [0.0]}, "16 dimensions"),
        ({"novelty": {"directions": [[1.0] * 15], "threshold": 1.0}}, "16 dimensions"),
        ({"novelty": {"directions": [], "threshold": 1.0}}, "calibration.novelty.directions"),
        ({"log_variance_std": [0.0] * 16}, "calibration.log_variance_std"),
        ({"corruptions": {"blur": [0.5]}}, "calibration.corruptions"),
        ({"corruptions": {"blur": [0.5, 0.6, 0.7, 0.8, 1.1]}}, "calibration.corruptions"),
        ({"acceptance": {"degraded": 0.0, "ood": float("nan")}}, "calibration.acceptance"),
        ({"definition_version": 2}, "calibration.definition_version"),
        ({"mood": 1}, "calibration.mood"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint):
        write_tiny_bundle(tmp_path / "bad", calibration=tiny_calibration() | change)

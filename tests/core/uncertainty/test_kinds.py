"""Which kind of degradation a picture resembles: linear discriminant analysis, beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.covariance import empirical_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tests.tiny_model import tiny_calibration
from vssl.arrays import Float64s, Int64s
from vssl.bundle.calibration_record import Calibration
from vssl.uncertainty.kinds import SHRINKAGE, fit_kinds, nearest_kind, resembled

KINDS, DIMENSION = 4, 6


@pytest.fixture(scope="module")
def pictures() -> tuple[Float64s, Int64s]:
    """Log variances of 800 pictures of four kinds, which scatter most in two directions."""
    rng = np.random.default_rng(0)
    kinds = np.arange(800) % KINDS
    shifts, scatter = rng.normal(0, 1.5, (KINDS, DIMENSION)), rng.normal(0, 0.5, (DIMENSION, DIMENSION))
    scatter[:2] *= 6
    return shifts[kinds] + rng.normal(0, 1, (800, DIMENSION)) @ scatter, kinds


class Shrunk:
    """A covariance with our shrinkage, as scikit-learn asks for one."""

    def fit(self, own: Float64s) -> "Shrunk":
        found = empirical_covariance(own)
        self.covariance_ = found + SHRINKAGE * np.trace(found) / len(found) * np.eye(len(found))
        return self


def test_nearest_kinds_and_their_chances_are_those_of_scikit_learn(pictures: tuple[Float64s, Int64s]) -> None:
    own, kinds = pictures
    expected = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Shrunk()).fit(own, kinds)
    shifts, discriminants = fit_kinds(own, kinds)
    nearest, chances = nearest_kind(own, shifts, discriminants)
    assert discriminants.shape == (KINDS - 1, DIMENSION)
    assert np.allclose(shifts, expected.means_)
    assert np.array_equal(nearest, expected.predict(own))
    assert np.allclose(chances, expected.predict_proba(own).max(1))
    plain, _ = nearest_kind(own, shifts, None)
    assert (nearest == kinds).mean() > (plain == kinds).mean() + 0.1  # distances in all dimensions alike tell less


def test_a_head_with_one_variance_for_all_dimensions_tells_what_it_can() -> None:
    kinds = np.arange(200) % 2
    own = np.repeat(kinds * 3.0 + np.random.default_rng(1).normal(0, 0.1, 200), 5).reshape(200, 5)
    shifts, discriminants = fit_kinds(own, kinds)
    nearest, chances = nearest_kind(own, shifts, discriminants)
    assert np.array_equal(nearest, kinds)
    assert np.isfinite(discriminants).all()
    assert chances.min() > 0.99


def told(kinds: dict[str, dict[str, object]], discriminants: list[list[float]] | None) -> Calibration:
    return Calibration.model_validate(tiny_calibration() | {"kinds": kinds, "discriminants": discriminants})


def test_only_a_likely_guess_of_a_kind_that_is_told_well_is_made() -> None:
    mean = np.array(tiny_calibration()["log_variance_mean"])
    one, other, third = (np.eye(len(mean))[place] * 3 for place in range(3))
    kinds = {
        name: {"shift": shift.tolist(), "accuracy": accuracy}
        for name, shift, accuracy in (("blur", one, 0.9), ("noise", other, 0.8), ("crop", third, 0.6))
    }
    asked = np.exp(mean + np.stack([one, other, third, (one + other) / 2 + 0.1 * one])).astype(np.float32)
    discriminants = (np.eye(len(mean))[:3] * 2).tolist()
    assert resembled(told(kinds, discriminants), asked) == [("blur", 0.9), ("noise", 0.8), None, ("blur", 0.9)]
    faint = [[value / 4 for value in row] for row in discriminants]
    assert resembled(told(kinds, faint), asked[3:]) == [None]  # as near to the one kind as to the other
    assert resembled(told(kinds, None), asked) == [("blur", 0.9), ("noise", 0.8), None, ("blur", 0.9)]

"""What a match is worth: fitted on one labelled gallery, and held to its word on queries that come later."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from vssl.bundle.calibration_record import GalleryCalibration
from vssl.errors import UsageError
from vssl.measures.uncertainty import calibration_error
from vssl.search.nearest import normalised
from vssl.uncertainty.conformal import coverage_and_size, coverage_interval
from vssl.uncertainty.fitting import exceeded_by_few, fit_confidence, fit_gallery, threshold
from vssl.uncertainty.matches import CalibratedMatches, Matches, apply_gallery_calibration, beyond, match

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
CLASSES = 5
COUNT = 2000


def images(count: int, seed: int) -> tuple[Numbers, Numbers, Labels]:
    """Embeddings, uncertainties and labels: each image is as far from its class as it is uncertain, roughly."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, 8))
    labels = rng.integers(0, CLASSES, count)
    blur = rng.gamma(2, 0.6, count)
    points = normalised(centres[labels] + blur[:, None] * rng.normal(size=(count, 8)))
    uncertainty: Numbers = np.log(blur) + rng.normal(0, 0.3, count)
    return points.astype(np.float64), uncertainty, labels


@pytest.fixture(scope="module")
def fitted() -> GalleryCalibration:
    points, uncertainty, labels = images(COUNT, 0)
    return fit_gallery(points, uncertainty, labels, CLASSES)


@pytest.fixture(scope="module")
def later() -> tuple[Matches, Labels]:
    gallery, _, labels = images(COUNT, 0)
    queries, uncertainty, truth = images(3000, 1)
    return match(queries, uncertainty, gallery, labels, CLASSES), truth


def judged(fitted: GalleryCalibration, matches: Matches, risk: str = "0.1", ood: bool = False) -> CalibratedMatches:
    count = len(matches.label)
    tie_break = np.random.default_rng(2).random(count)
    return apply_gallery_calibration(fitted, matches, "0.1", risk, tie_break, np.full(count, ood))


def test_evidence_is_what_it_says() -> None:
    gallery = normalised(np.array([[1, 0.1], [1, 0.3], [1, -0.6], [0, 1]]))
    labels = np.array([1, 1, 0, 1])
    found = match(np.array([[1.0, 0.0]]), np.array([-2.0]), gallery, labels, 2)
    similarity = gallery[:, 0]
    weights = np.exp(similarity / 0.1)
    share = weights[labels == 1].sum() / weights.sum()
    np.testing.assert_allclose(found.evidence, [[-2, similarity[0], similarity[0] - similarity[2], share]], rtol=1e-6)
    np.testing.assert_allclose(found.votes, [[1 - share, share]], rtol=1e-6)
    assert (found.label.tolist(), found.neighbours.rows.tolist()) == ([1], [[0, 1, 2, 3]])
    alike = match(np.array([[1.0, 0.0]]), np.array([-2.0]), gallery, np.zeros(4, np.int64), 1)
    assert alike.evidence[0, 2] == pytest.approx(similarity[0] - similarity[3])


def test_probabilities_hold_for_later_queries(fitted: GalleryCalibration, later: tuple[Matches, Labels]) -> None:
    matches, truth = later
    right = matches.label == truth
    found = judged(fitted, matches)
    assert 0.5 < right.mean() < 0.9
    assert calibration_error(found.p_correct, right) < 0.05
    assert roc_auc_score(right, found.p_correct) > 0.7
    assert fitted.measured["auroc"] == pytest.approx(roc_auc_score(right, found.p_correct), abs=0.08)
    assert ((found.low <= found.p_correct) & (found.p_correct <= found.high)).all()


def test_a_small_gallery_is_enough_for_probabilities_that_hold() -> None:
    """Three quarters of 200 images fit the probabilities; a quarter of them would miss by .062 here."""
    errors, ranked = [], []
    for seed in range(12):
        gallery, uncertainty, labels = images(200, seed)
        queries, told, truth = images(3000, 100 + seed)
        matches = match(queries, told, gallery, labels, CLASSES)
        found = judged(fit_gallery(gallery, uncertainty, labels, CLASSES), matches)
        right = matches.label == truth
        errors.append(calibration_error(found.p_correct, right))
        ranked.append(roc_auc_score(right, found.p_correct))
    assert np.mean(errors) < 0.054
    assert np.mean(ranked) > 0.89


def test_two_wrong_neighbours_are_enough_and_one_is_not() -> None:
    """Of 120 images, in all that fits: fewer folds then."""
    points, uncertainty, labels = images(120, 4)
    clear = np.eye(8)[labels] + points * 1e-3
    for wrong, enough in ((1, False), (12, True)):
        told = labels.copy()
        told[:wrong] = (told[:wrong] + 1) % CLASSES
        if enough:
            assert fit_gallery(clear, uncertainty, told, CLASSES).images == 120
        else:
            with pytest.raises(UsageError, match="too few of one kind"):
                fit_gallery(clear, uncertainty, told, CLASSES)


def test_sets_hold_the_label_as_often_as_promised(fitted: GalleryCalibration, later: tuple[Matches, Labels]) -> None:
    matches, truth = later
    low, high = coverage_interval(COUNT * 3 // 4, len(truth), 0.1)
    coverage, size = coverage_and_size(judged(fitted, matches).sets, truth)
    assert low <= coverage <= high
    assert 1 <= size < CLASSES


@pytest.mark.parametrize("risk", ["0.05", "0.1", "0.2"])
def test_no_more_of_the_accepted_are_wrong_than_asked(
    fitted: GalleryCalibration, later: tuple[Matches, Labels], risk: str
) -> None:
    matches, truth = later
    accepted = np.array(judged(fitted, matches, risk).actions) == "accept"
    wrong = float((matches.label != truth)[accepted].mean())
    assert accepted.any()
    assert wrong <= float(risk) + 2 * np.sqrt(float(risk) / (COUNT / 4))


def test_actions(fitted: GalleryCalibration, later: tuple[Matches, Labels]) -> None:
    matches, _ = later
    found = judged(fitted, matches, "0.05")
    actions = np.array(found.actions)
    assert set(actions) == {"accept", "review", "abstain"}
    assert found.p_correct[actions == "accept"].min() > found.p_correct[actions == "review"].max()
    assert found.p_correct[actions == "review"].min() >= 0.5 > found.p_correct[actions == "abstain"].max()
    assert set(judged(fitted, matches, ood=True).actions) == {"abstain"}


def test_more_uncertain_than_nearly_all_images_is_no_match_to_accept(
    fitted: GalleryCalibration, later: tuple[Matches, Labels]
) -> None:
    matches, _ = later
    accepted = np.array(judged(fitted, matches).actions) == "accept"
    assert beyond(fitted, matches).mean() == pytest.approx(0.01, abs=0.006)
    assert not (accepted & beyond(fitted, matches)).any()
    blurred = replace(matches, evidence=matches.evidence + np.array([10, 0, 0, 0]))
    assert set(judged(fitted, blurred).actions) == {"abstain"}
    older = GalleryCalibration.model_validate(fitted.model_dump(exclude={"uncertainty"}))
    assert not beyond(older, blurred).any()


@given(st.integers(1, 400), st.integers(0, 99))
def test_few_are_beyond_what_few_exceed(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(count).astype(np.float64)
    most = exceeded_by_few(values)
    # Of N + 1 exchangeable values each is as likely to be the last one: as many orders put it above `most`.
    assert (values > most).sum() + 1 <= max(1, 0.01 * (count + 1))
    if count > 99:
        assert (values >= most).sum() + 1 > 0.01 * (count + 1)


def test_threshold_is_the_least_that_will_do() -> None:
    p = np.array([0.9, 0.9, 0.8, 0.8, 0.8, 0.6, 0.3])
    right = np.array([True, True, True, False, True, False, False])
    assert threshold(p, right, 0.34) == 0.8  # (1 + 1) / (5 + 1); of two alone it would be (0 + 1) / (2 + 1)
    assert threshold(p, right, 0.43) == 0.6
    assert threshold(p, right, 0.3) is None


def test_confidence_falls_with_uncertainty_as_isotonic_regression_has_it() -> None:
    rng = np.random.default_rng(3)
    uncertainty = rng.normal(size=3000)
    wrong = rng.random(3000) < 1 / (1 + np.exp(-1.5 * uncertainty))
    found = fit_confidence(uncertainty, wrong)
    asked = np.linspace(-3, 3, 50)
    confidence = np.interp(asked, found.curve.x, found.curve.y)
    assert (np.diff(confidence) <= 0).all()
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(1.5 * asked)), atol=0.12)
    oracle = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(uncertainty, ~wrong)
    np.testing.assert_allclose(confidence[10:40], oracle.predict(asked)[10:40], atol=0.1)
    assert found.ece < 0.05
    assert found.auroc > 0.75


def test_what_can_not_be_calibrated_on_is_refused() -> None:
    points, uncertainty, labels = images(150, 4)
    with pytest.raises(UsageError, match="99 labelled images are too few"):
        fit_gallery(points[:99], uncertainty[:99], labels[:99], CLASSES)
    with pytest.raises(UsageError, match="too few of one kind"):
        fit_gallery(np.eye(8)[labels] + points * 1e-3, uncertainty, labels, CLASSES)
    with pytest.raises(UsageError, match="too few of one kind"):
        fit_confidence(uncertainty, np.ones(150, np.bool_))

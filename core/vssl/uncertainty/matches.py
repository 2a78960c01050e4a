"""How likely a match in a labelled gallery is right: tier 3 of docs/uncertainty.md, applied with numpy alone.

Four numbers a query are the evidence for "the nearest neighbour has the right label". `fitting` learns on labelled
images how to turn them into probabilities; this module applies what it learned.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vssl.arrays import Float64s, Floats, Integers, Mask
from vssl.bundle.calibration_record import GalleryCalibration
from vssl.errors import UsageError
from vssl.search.nearest import NEIGHBOURS, Neighbours, nearest
from vssl.uncertainty.calibrated import interpolate
from vssl.uncertainty.conformal import prediction_sets

Action = Literal["accept", "review", "abstain"]


@dataclass(frozen=True)
class Matches:
    """Q queries looked up in a labelled gallery.

    Attributes:
        neighbours: of each query, at least the 20 nearest (all, in a smaller gallery).
        label: of the nearest neighbour, [Q].
        votes: share of each class in the vote of the 20 nearest, [Q, C].
        evidence: [Q, 4]: the query's uncertainty; the nearest neighbour's similarity; its margin over the nearest with
            another label (over the last, where all have the same); its label's share of the vote.
    """

    neighbours: Neighbours
    label: Integers
    votes: Float64s
    evidence: Float64s


@dataclass(frozen=True)
class CalibratedMatches:
    """Q matches under a calibration.

    Attributes:
        p_correct: estimated probability that the nearest neighbour has the right label, [Q].
        low: lower end of its 95 % interval, [Q].
        high: upper end, [Q].
        sets: labels that can't be ruled out at α, bool [Q, C].
        actions: Q of them, see `apply_gallery_calibration`.
    """

    p_correct: Float64s
    low: Float64s
    high: Float64s
    sets: Mask
    actions: list[Action]


def match(
    queries: Floats,
    uncertainty: Floats,
    gallery: Floats,
    labels: Integers,
    classes: int,
    k: int = NEIGHBOURS,
    exclude_self: bool = False,
) -> Matches:
    """Look up queries [Q, D], with uncertainties [Q], in a gallery [G, D] with labels [G] in 0 … classes − 1.

    `exclude_self`: queries and gallery are the same images, and no image finds itself.

    Raises:
        UsageError: the gallery is empty.
    """
    return matches_of(nearest(queries, gallery, max(k, NEIGHBOURS), exclude_self), uncertainty, labels, classes)


def matches_of(found: Neighbours, uncertainty: Floats, labels: Integers, classes: int) -> Matches:
    """Matches from known neighbours: at least the 20 nearest (all, in a smaller gallery) of Q queries.

    Args:
        found: the neighbours in the gallery.
        uncertainty: of the queries, [Q].
        labels: of the gallery, [G], in 0 … classes − 1.
        classes: the number of labels.
    """
    voting = Neighbours(found.rows[:, :NEIGHBOURS], found.similarity[:, :NEIGHBOURS])
    votes = voting.votes(labels, classes)
    every = np.arange(len(votes))
    label = labels[voting.rows[:, 0]]
    other = labels[voting.rows] != label[:, None]
    rival = np.where(other.any(axis=1), other.argmax(axis=1), other.shape[1] - 1)
    similarity = voting.similarity[:, 0]
    margin = similarity - voting.similarity[every, rival]
    evidence = np.column_stack([uncertainty, similarity, margin, votes[every, label]]).astype(np.float64)
    return Matches(found, label, votes, evidence)


def apply_gallery_calibration(
    calibration: GalleryCalibration, matches: Matches, alpha: str, risk: str, tie_break: Floats, ood: Mask | None = None
) -> CalibratedMatches:
    """Apply a calibration to matches.

    The action is `abstain` where the image is flagged `ood`, is too uncertain (`beyond`), or the match is more likely
    wrong than right, `accept` where p_correct reaches the threshold for `risk`, else `review`.

    Args:
        calibration: fitted on labelled images like the queries.
        matches: Q of them.
        alpha: how often the right label may be missing in a set: a key of `calibration.conformal`.
        risk: errors among the accepted: a key of `calibration.risk`.
        tie_break: a number in [0, 1) for each query, [Q]; it settles the ties of its set.
        ood: flags of the queries by their image alone, [Q].
    """
    logits = matches.evidence @ np.array(calibration.weights) + calibration.bias
    p_correct = interpolate(calibration.p_correct, logits)
    for name, level, known in (("risk", risk, calibration.risk), ("alpha", alpha, calibration.conformal)):
        if level not in known:
            raise UsageError(f"{name} {level}: nothing is calibrated for it; there are: {', '.join(sorted(known))}")
    threshold = calibration.risk[risk]
    refused = (p_correct < 0.5) | beyond(calibration, matches)
    if ood is not None:
        refused |= ood
    reached = np.zeros(len(logits), np.bool_) if threshold is None else p_correct >= threshold
    quantile = calibration.conformal[alpha]
    return CalibratedMatches(
        p_correct=p_correct,
        low=interpolate(calibration.low, logits),
        high=interpolate(calibration.high, logits),
        sets=prediction_sets(matches.votes, quantile.score, quantile.tie, tie_break),
        actions=["abstain" if no else "accept" if yes else "review" for no, yes in zip(refused, reached, strict=True)],
    )


def beyond(calibration: GalleryCalibration, matches: Matches) -> Mask:
    """Which of Q queries are more uncertain than 99 % of the images that the calibration was fitted on, [Q].

    Of such images it knows nothing: its probability is an extrapolation, with or without flags of a calibrated bundle.
    """
    if calibration.uncertainty is None:
        return np.zeros(len(matches.label), np.bool_)
    exceeds: Mask = matches.evidence[:, 0] > calibration.uncertainty
    return exceeds

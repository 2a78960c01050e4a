"""Classification by a labelled gallery: a label, how likely it is right, and why there is no answer if there is none.

The calibration is the gallery's own. It is fitted on the gallery's labelled rows, each a query to all others but its
near-duplicates, and forgotten when over 5 % of them have changed: a number that may be wrong is worse than none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from vssl.arrays import Floats, Mask
from vssl.bundle.calibration_record import GalleryCalibration
from vssl.errors import UsageError
from vssl.search.nearest import NEIGHBOURS, Neighbours, NeighbourSearch
from vssl.uncertainty.fitting import calibration_rows, fit_matches
from vssl.uncertainty.matches import Action, Matches, apply_gallery_calibration, beyond, matches_of
from vssl_gallery.errors import NotAGallery
from vssl_gallery.queries import Queries
from vssl_gallery.store.contract import Found

Reason = Literal["ood", "unfamiliar", "uncertain", "unlikely", "uncalibrated", "stale", "filtered", "no_uncertainty"]

STALE = 0.05
"""Share of the labelled rows that may change before a calibration is stale."""

NEAR_DUPLICATE = 0.98
"""Rows of a larger cosine show the same thing twice: no proof that a label can be found."""

MOST_DUPLICATES = 20
"""Near-duplicates of a row that are passed over when fitting."""


@dataclass(frozen=True)
class Classified:
    """What a gallery says of one query.

    Attributes:
        label: of the nearest neighbour; None where no row has a label.
        p_correct: estimated probability that it is right, or None: see `reason`.
        low: lower end of its 95 % interval.
        high: upper end.
        prediction_set: labels that can't be ruled out at α; None as `p_correct`.
        action: `accept`, `review`, or `abstain`.
        reason: of an abstention. `ood`, `unfamiliar`: the image's own flags. `uncertain`: more so than 99 % of those
            that the gallery was calibrated on. `unlikely`: the match is more likely wrong than right. `uncalibrated`:
            the gallery was never calibrated. `stale`: it has changed too much since. `filtered`: a filter changes what
            is likely. `no_uncertainty`: the query's is not known.
        neighbours: ids of the rows that voted, the nearest first.
        similarity: their cosines with the query.
    """

    label: str | None
    p_correct: float | None
    low: float | None
    high: float | None
    prediction_set: list[str] | None
    action: Action
    reason: Reason | None
    neighbours: list[str]
    similarity: list[float]


class CalibrationRecord(BaseModel):
    """A gallery's calibration as it keeps it: `version` of the gallery, `classes` in order, what it was fitted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    version: int
    k: int
    exact: bool
    classes: list[str]
    fingerprint: str
    gallery: GalleryCalibration


def read_calibration(text: str, gallery: str) -> CalibrationRecord:
    """What a gallery kept.

    Raises:
        NotAGallery: a newer version wrote it, or it is damaged.
    """
    try:
        return CalibrationRecord.model_validate_json(text)
    except ValidationError as error:
        raise NotAGallery(
            f"{gallery}: its calibration can't be read ({error.errors()[0]['msg']}); calibrate it again"
        ) from None


def fit(embedding: Floats, uncertainty: Floats, labels: Sequence[str]) -> tuple[list[str], GalleryCalibration]:
    """Calibrate on labelled rows [N, D] with uncertainties [N].

    Rows without another neighbour than their near-duplicates teach nothing, and are left out.

    Returns:
        The classes in order, and the calibration.

    Raises:
        UsageError: too few rows or classes, or (nearly) all neighbours are right, or all wrong.
    """
    classes, numbers = np.unique(np.array(labels, object).astype(str), return_inverse=True)
    if len(classes) < 2:
        raise UsageError("to calibrate, rows of two or more labels are needed")
    rows = calibration_rows(len(embedding))
    search = NeighbourSearch(embedding[rows], NEIGHBOURS + MOST_DUPLICATES, own=rows)
    search.add(embedding)
    found, kept = without_duplicates(search.found())
    if not kept.any():
        raise UsageError("to calibrate, rows are needed that are no near-duplicates of each other")
    matches = matches_of(found, uncertainty[rows[kept]], numbers, len(classes))
    return classes.tolist(), fit_matches(matches, numbers[rows[kept]], len(classes))


def without_duplicates(found: Neighbours) -> tuple[Neighbours, Mask]:
    """The `NEIGHBOURS` nearest that are no near-duplicates, and which queries have at least two, [Q].

    Where fewer are left, the last one stands in their place with similarity −1: it hardly votes.
    """
    fresh = found.similarity < NEAR_DUPLICATE
    order = np.argsort(~fresh, axis=1, kind="stable")[:, :NEIGHBOURS]
    rows = np.take_along_axis(found.rows, order, axis=1)
    similarity = np.take_along_axis(found.similarity, order, axis=1)
    similarity = np.where(np.take_along_axis(fresh, order, axis=1), similarity, np.float32(-1))
    kept = fresh.sum(axis=1) >= 2
    return Neighbours(rows[kept], similarity[kept]), kept


def _by_query(found: Found, queries: int) -> list[tuple[list[str], list[str], list[float]]]:
    """Ids, labels and cosines of the rows of each query."""
    query = found.rows["query"].to_numpy()
    ends = np.searchsorted(query, np.arange(queries + 1))
    parts = [found.rows.slice(start, end - start) for start, end in pairwise(ends)]
    return [(p["id"].to_pylist(), p["label"].to_pylist(), p["similarity"].to_pylist()) for p in parts]


def classify(
    queries: Queries,
    found: Found,
    record: CalibrationRecord | None,
    obstacle: Reason | None,
    gallery: str,
    alpha: float,
    risk: float,
) -> list[Classified]:
    """Classify Q queries.

    Args:
        queries: Q of them.
        found: the nearest labelled rows of each, with their `label`.
        record: the gallery's calibration, where it holds.
        obstacle: why nothing can be said, where that is so for all queries.
        gallery: its name.
        alpha: how often the right label may be missing in a set.
        risk: errors among the accepted.

    Raises:
        UsageError: the calibration has no such alpha or risk.
    """
    neighbours = _by_query(found, len(queries))
    if obstacle is None and queries.uncertainty is None:
        obstacle = "no_uncertainty"
    if obstacle is not None or record is None or queries.uncertainty is None:
        return [_unsaid(one, obstacle or "uncalibrated") for one in neighbours]
    can = np.array([len(one[0]) >= 2 for one in neighbours])
    answers = [_unsaid(one, "uncalibrated") for one in neighbours]
    for q, answer in zip(
        np.flatnonzero(can), _said(queries, can, neighbours, record, gallery, alpha, risk), strict=True
    ):
        answers[q] = answer
    return answers


def _unsaid(found: tuple[list[str], list[str], list[float]], reason: Reason) -> Classified:
    names, labels, similarity = found
    return Classified(labels[0] if labels else None, None, None, None, None, "abstain", reason, names, similarity)


def _said(
    queries: Queries,
    can: Mask,
    neighbours: Sequence[tuple[list[str], list[str], list[float]]],
    record: CalibrationRecord,
    gallery: str,
    alpha: float,
    risk: float,
) -> list[Classified]:
    """Those of the queries that have two or more labelled neighbours."""
    mine = [found for found, one in zip(neighbours, can, strict=True) if one]
    assert queries.uncertainty is not None
    # A label that is newer than the calibration has a place of its own behind the others.
    names = record.classes + sorted({label for _, labels, _ in mine for label in labels} - set(record.classes))
    matches = _matches(mine, queries.uncertainty[can], names)
    flagged = _flags(queries, can)
    calibrated = apply_gallery_calibration(
        record.gallery, matches, f"{alpha:g}", f"{risk:g}", queries.tie_breaks(gallery)[can], flagged["ood"]
    )
    uncertain, answers = beyond(record.gallery, matches), []
    for place, (ids, labels, similarity) in enumerate(mine):
        action: Action = calibrated.actions[place]
        reason: Reason | None = None
        if flagged["ood"][place]:
            reason = "ood"
        elif flagged["unfamiliar"][place]:
            action, reason = "abstain", "unfamiliar"
        elif uncertain[place]:
            reason = "uncertain"
        elif action == "abstain":
            reason = "unlikely"
        inside = [name for name, there in zip(names, calibrated.sets[place], strict=True) if there]
        p, low, high = (float(each[place]) for each in (calibrated.p_correct, calibrated.low, calibrated.high))
        answers.append(Classified(labels[0], p, low, high, inside, action, reason, ids, similarity))
    return answers


def _matches(
    neighbours: Sequence[tuple[list[str], list[str], list[float]]], uncertainty: Floats, classes: Sequence[str]
) -> Matches:
    number = {name: place for place, name in enumerate(classes)}
    width = max((len(ids) for ids, _, _ in neighbours), default=1)
    labels: list[int] = []
    rows = np.zeros((len(neighbours), width), np.int64)
    similarity = np.full((len(neighbours), width), -1, np.float32)
    for q, (ids, names, cosines) in enumerate(neighbours):
        rows[q, : len(ids)] = np.arange(len(labels), len(labels) + len(ids))
        rows[q, len(ids) :] = len(labels) + len(ids) - 1
        similarity[q, : len(ids)] = cosines
        labels += [number[name] for name in names]
    return matches_of(Neighbours(rows, similarity), uncertainty, np.array(labels, np.int64), len(classes))


def _flags(queries: Queries, can: Mask) -> dict[str, Mask]:
    none = np.zeros(int(can.sum()), np.bool_)
    return {
        "ood": none if queries.ood is None else queries.ood[can],
        "unfamiliar": none if queries.unfamiliar is None else queries.unfamiliar[can],
    }

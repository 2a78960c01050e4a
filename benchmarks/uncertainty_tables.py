"""What `benchmarks/uncertainty.py` found, as tables: every head and baseline, the choice among them, the goals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.report import Row
from benchmarks.uncertainty_split import BASELINE_HEAD, Judged
from vssl.images.degradations import CORRUPTIONS
from vssl.measures.uncertainty import bootstrap, calibration_error, error_cut, r_auroc, within_class_r_auroc
from vssl.uncertainty.conformal import coverage_interval

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Trial:
    """One split one way round, one seed.

    Attributes:
        valid: training images of the unseen classes.
        test: test images of theirs.
        bounds: uncertainties of the test images by labels, see `oracle`.
        degraded: AUROC of validation images that are degraded, for each variant and kind.
        further: figures of the test images for each variant.
        cost: R@1 that the heads cost.
    """

    valid: Judged
    test: Judged
    bounds: Mapping[str, Floats]
    degraded: Mapping[str, Mapping[str, float]]
    further: Mapping[str, Row]
    cost: float


def sees_degraded(trials: Sequence[Trial], variant: str) -> bool:
    """Whether a head meets the goals for degraded images, on the validation images."""
    means = {kind: np.mean([one.degraded[variant][kind] for one in trials]) for kind in CORRUPTIONS}
    return bool(means["crop"] >= 0.95 and min(means.values()) >= 0.75)


def best_of(scores: Sequence[Mapping[str, Floats]], images: Sequence[Judged], names: Sequence[str]) -> str:
    """The one of `names` with the best mean R-AUROC on these images, the baseline's head excepted."""
    ours = [name for name in names if not name.endswith(BASELINE_HEAD)]
    return max(ours, key=lambda name: np.mean([r_auroc(s[name], i.wrong) for s, i in zip(scores, images, strict=True)]))


def over_trials(statistic: Callable[..., float], *columns: Sequence[npt.NDArray[np.generic]]) -> Row:
    """Mean of a statistic over the trials, with a 95 % interval over images; a column is one array a trial."""
    stacked = [np.stack(column, axis=1) for column in columns]

    def mean(*parts: npt.NDArray[np.generic]) -> float:
        return float(np.mean([statistic(*(part[:, i] for part in parts)) for i in range(parts[0].shape[1])]))

    low, high = bootstrap(mean, *stacked, samples=200)
    return {"figure": mean(*stacked), "low": low, "high": high}


def methods(trials: Sequence[Trial]) -> list[Row]:
    """Tier 1 by every head and baseline, and tier 2 by every way to join distance and variance."""
    wrong, labels = [one.test.wrong for one in trials], [one.test.labels for one in trials]
    rows: list[Row] = []
    for name in trials[0].test.tier1():
        scores = [one.test.tier1()[name] for one in trials]
        inside = np.mean([within_class_r_auroc(s, w, c) for s, w, c in zip(scores, wrong, labels, strict=True)])
        validation = np.mean([r_auroc(one.valid.tier1()[name], one.valid.wrong) for one in trials])
        figures = over_trials(r_auroc, scores, wrong)
        figures |= {"in class": float(inside), "validation": float(validation)}
        if name in trials[0].further:
            kinds = {kind: float(np.mean([one.further[name][kind] for one in trials])) for kind in CORRUPTIONS}
            figures |= {
                "crop": kinds["crop"],
                "worst": min(kinds.values()),
                "worst is": min(kinds, key=kinds.__getitem__),
            }
            for other in ("clothes", "digits"):
                figures[other] = float(np.mean([one.further[name][f"{other} novelty"] for one in trials]))
        rows.append({"measure": f"tier 1 R-AUROC: {name}"} | figures)
    for name in trials[0].bounds:
        scores = [one.bounds[name] for one in trials]
        inside = np.mean([within_class_r_auroc(s, w, c) for s, w, c in zip(scores, wrong, labels, strict=True)])
        figures = over_trials(r_auroc, scores, wrong) | {"in class": float(inside)}
        rows.append({"measure": f"tier 1 R-AUROC, a bound: {name}"} | figures)
    for name in trials[0].test.pair:
        validation = np.mean([r_auroc(one.valid.pair[name], one.valid.wrong) for one in trials])
        figures = over_trials(r_auroc, [one.test.pair[name] for one in trials], wrong)
        rows.append({"measure": f"tier 2 R-AUROC: {name}"} | figures | {"validation": float(validation)})
    return rows


def coverage_of_right_sets(calibrated: int, covered: Sequence[Floats]) -> tuple[float, float]:
    """The 95 % interval of coverage if all is right, at α = .1, of one array a trial, each by so many images.

    Every second trial is the one before the other way round: such a pair has each image once. Other splits and seeds
    ask the same images again, which is no more evidence.
    """
    once = covered[:2]
    return coverage_interval(calibrated * len(once), sum(map(len, once)), 0.1)


def goals(trials: Sequence[Trial], variant: str, pairing: str) -> list[Row]:
    """The goals table: figure, interval, and whether it is met."""
    tests = [one.test for one in trials]
    wrong, labels = [test.wrong for test in tests], [test.labels for test in tests]
    own = [test.answers[variant].uncertainty for test in tests]
    rivals = [*trials[0].test.baselines, BASELINE_HEAD]
    rival = max(rivals, key=lambda name: np.mean([r_auroc(test.tier1()[name], test.wrong) for test in tests]))
    theirs = [test.tier1()[rival] for test in tests]
    gain = over_trials(lambda a, b, w: r_auroc(a, w) - r_auroc(b, w), own, theirs, wrong)
    further = [one.further[variant] for one in trials]
    p, right, covered = ([one[name] for one in further] for name in ("p_correct", "right", "covered"))
    missed = [values == 0 for values in right]
    low, high = coverage_of_right_sets(int(further[0]["calibrated"][0]), covered)
    coverage = float(np.concatenate(covered).mean())

    def averaged(name: str) -> float:
        return float(np.mean([one[name] for one in further]))

    kinds = {kind: averaged(kind) for kind in CORRUPTIONS}
    lowest = min(one[kind] for one in further for kind in CORRUPTIONS)
    cost = float(np.mean([one.cost for one in trials]))
    ece = float(np.mean([calibration_error(a, b == 1) for a, b in zip(p, right, strict=True)]))

    def row(goal: str, figures: Row, met: bool) -> Row:
        return {"measure": f"goal: {goal}"} | figures | {"met": "yes" if met else "no"}

    def least(goal: str, figures: Row, wanted: float) -> Row:
        return row(goal, figures, figures["figure"] >= wanted)

    return [
        least("tier 1 R-AUROC ≥ .57", over_trials(r_auroc, own, wrong), 0.57),
        row(f"tier 1 over {rival} ≥ .03, interval above 0", gain, gain["figure"] >= 0.03 and gain["low"] > 0),
        least("within class ≥ .55", over_trials(within_class_r_auroc, own, wrong, labels), 0.55),
        least("tier 2 R-AUROC ≥ .62", over_trials(r_auroc, [test.pair[pairing] for test in tests], wrong), 0.62),
        least("tier 3 AUROC ≥ .75", over_trials(lambda a, b: r_auroc(-a, b), p, missed), 0.75),
        row("tier 3 ECE ≤ .03", {"figure": ece}, ece <= 0.03),
        least("error cut at 80 % coverage ≥ .15", over_trials(lambda a, b: error_cut(-a, b), p, missed), 0.15),
        least("crop ≥ .95", {"figure": kinds["crop"]}, 0.95),
        *(least(f"{kind} ≥ .75", {"figure": value}, 0.75) for kind, value in kinds.items() if kind != "crop"),
        row("no corruption under .5 in any trial", {"figure": lowest}, lowest >= 0.5),
        *(
            least(f"far OOD with the gallery, {kind} ≥ .90", {"figure": averaged(f"{kind} novelty")}, 0.9)
            | {other: averaged(f"{kind} {other}") for other in ("u", "distance", "fpr95")}
            for kind in ("clothes", "digits")
        ),
        row("conformal coverage at α = .1", {"figure": coverage, "low": low, "high": high}, low <= coverage <= high),
        {"measure": "labels in a conformal set", "figure": float(np.mean([one["size"].mean() for one in further]))},
        row("R@1 lost by the variance head ≤ .005", {"figure": cost}, cost <= 0.005),
        {"measure": "nearest neighbours right", "figure": 1 - float(np.mean(np.concatenate(wrong)))},
    ]

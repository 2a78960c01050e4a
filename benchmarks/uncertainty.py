"""Does the uncertainty know what it should, on classes that the encoder never saw? The goals, and every baseline.

`python -m benchmarks.uncertainty --data CIFAR`: an encoder on five classes of CIFAR-10 for each of three splits and
their reverse, and each seed; five heads on each; judged on the test images of the other five classes. The variant, and
what tier 2 is, are chosen on their training images, which also are tier 3's labelled gallery. Encoders, and
what was judged of them, are kept in `--work`: a second call goes on with them.
"""

import argparse
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import Row, at_once, fingerprint, parser, report, threads_each
from benchmarks.uncertainty_split import (
    BASELINE_HEAD,
    Judged,
    class_archive,
    degraded,
    heads,
    judged,
    oracle,
    other_images,
    out_of_distribution,
    seen_embeddings,
    some,
    tier3,
    trained,
)
from vssl.files import atomic_write
from vssl.images.decoding import Preprocessing
from vssl.images.degradations import CORRUPTIONS
from vssl.measures.uncertainty import (
    bootstrap,
    calibration_error,
    error_cut,
    neighbour_is_wrong,
    r_auroc,
    within_class_r_auroc,
)
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.conformal import coverage_interval
from vssl_training.encoder.embedder import embeddings_of
from vssl_training.encoder.weights import load_embedder
from vssl_training.recipe.reading import load_recipe

Floats = npt.NDArray[np.floating]

SPLITS = 3
MOST_DEGRADED = 1_000


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


def main() -> None:
    """Print what was chosen between, and the goals."""
    flags = parser(__doc__)
    flags.add_argument("--data", required=True, help="archive with `train` and `test` folders of ten classes")
    flags.add_argument("--work", type=Path, help="where runs are kept; by default they are not")
    flags.add_argument("--recipe", default="quick")
    flags.add_argument("--minutes", type=float, default=8.0, help="of training for each encoder")
    flags.add_argument("--steps", type=int, default=600, help="of training for each head")
    flags.add_argument("--seeds", type=int, default=1)
    flags.add_argument("--jobs", type=int, default=1, help="encoders at once, which share the cores")
    arguments = flags.parse_args()
    quick = arguments.quick
    minutes, steps = (0.3, 20) if quick else (arguments.minutes, arguments.steps)
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        tasks = [
            (arguments, work, seen, unseen, seed, minutes, steps)
            for seed in range(arguments.seeds)
            for seen, unseen in class_splits(arguments.data, 1 if quick else SPLITS)[: 1 if quick else None]
        ]
        trials = list(at_once(arguments.jobs, trial, tasks))
    able = [name for name in trials[0].degraded if sees_degraded(trials, name)] or list(trials[0].degraded)
    variant = best_of([one.valid.tier1() for one in trials], [one.valid for one in trials], able)
    pairing = best_of([one.valid.pair for one in trials], [one.valid for one in trials], list(trials[0].test.pair))
    settings = {
        "data": Path(arguments.data).name,
        "encoders": len(trials),
        "minutes each": minutes,
        "recipe": arguments.recipe,
        "seeds": arguments.seeds,
        "threads": threads_each(arguments.jobs),
        "heads that see degraded images": able,
        "chosen head": variant,
        "chosen tier 2": pairing,
    }
    rows = [*methods(trials), *goals(trials, variant, pairing)]
    report("Uncertainty on unseen classes", rows, settings, arguments.json)


def class_splits(data: str, count: int) -> list[tuple[list[str], list[str]]]:
    """Random halves of the classes, each both ways round."""
    source = open_source(f"{data}::train")
    classes = sorted({path.split("/")[0] for path in source.paths()})
    source.close()
    found = []
    for split in range(count):
        order = np.random.default_rng(split).permutation(len(classes))
        one, other = (sorted(classes[i] for i in half) for half in np.array_split(order, 2))
        found += [(one, other), (other, one)]
    return found


def trial(
    arguments: argparse.Namespace,
    work: Path,
    seen: list[str],
    unseen: list[str],
    seed: int,
    minutes: float,
    steps: int,
) -> Trial:
    """`new_trial`, unless `work` has it of the same recipe and data."""
    about = f"{fingerprint(load_recipe(arguments.recipe))}-{minutes:g}min-seed{seed}"
    run = work / f"{'-'.join(one[:4] for one in seen)}-{about}"
    kept = run.with_name(f"{run.name}-{steps}steps-{Path(arguments.data).stem}{'-quick' * arguments.quick}.pickle")
    if not kept.exists():
        found = new_trial(arguments, run, seen, unseen, seed, minutes, steps)
        with atomic_write(kept) as file:
            pickle.dump(found, file)
    done: Trial = pickle.loads(kept.read_bytes())
    return done


def new_trial(
    arguments: argparse.Namespace,
    place: Path,
    seen: list[str],
    unseen: list[str],
    seed: int,
    minutes: float,
    steps: int,
) -> Trial:
    """Train and judge one encoder."""
    name = "-".join(one[:4] for one in seen)
    archive = place.with_name(f"{name}.zip")
    class_archive(f"{arguments.data}::train", seen, archive)
    run = trained(archive, place, arguments.recipe, minutes, seed)
    size = Preprocessing(size=run.record().recipe.size)
    training = load_images(open_source(str(archive)), size)
    embedders = heads(run, training.pixels, steps)
    first = next(iter(embedders.values()))
    known = seen_embeddings(first, training.pixels)
    every = 2 if arguments.quick else 1
    sets = [some(f"{arguments.data}::{part}", unseen, times * every) for part, times in (("train", 2), ("test", 1))]
    valid, test = (judged(embedders, run, images, known) for images in sets)
    others = other_images(size)
    queries, rest = np.split(sets[1].pixels[shuffled(len(sets[1]))], [MOST_DEGRADED // every])
    further: dict[str, Row] = {}
    before: dict[str, Mapping[str, float]] = {}
    for variant, embedder in embedders.items():
        before[variant] = degraded(embedder, sets[0].pixels[shuffled(len(sets[0]))][: MOST_DEGRADED // every])
        further[variant] = degraded(embedder, queries) | tier3(valid, test, variant)
        for kind, pixels in others.items():
            further[variant] |= out_of_distribution(embedder, queries, rest, pixels, kind)
    print(f"judged {name}, seed {seed}: {1 - test.wrong.mean():.3f} of the nearest neighbours right", flush=True)
    alone = neighbour_is_wrong(embeddings_of(load_embedder(run), sets[1].pixels).embedding, test.labels)
    assert training.labels is not None
    some_seen = shuffled(len(training))[: len(test.labels)]
    seen_set = replace(training, pixels=training.pixels[some_seen], labels=training.labels[some_seen])
    missed = neighbour_is_wrong(embeddings_of(first, seen_set.pixels).embedding, training.labels[some_seen])
    bounds = {
        "labels of the seen classes": oracle(first, seen_set, missed, sets[1].pixels),
        "labels of these classes' training images": oracle(first, sets[0], valid.wrong, sets[1].pixels),
    }
    return Trial(valid, test, bounds, before, further, float(test.wrong.mean() - alone.mean()))


def shuffled(count: int) -> npt.NDArray[np.int64]:
    """0 … count − 1, always in the same random order: images lie in the order of their classes."""
    return np.random.default_rng(0).permutation(count)


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
    calibrated, judged_images = int(further[0]["calibrated"][0]), sum(map(len, covered))
    low, high = coverage_interval(calibrated * len(trials), judged_images, 0.1)
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


if __name__ == "__main__":
    main()

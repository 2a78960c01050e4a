"""Does the uncertainty know what it should, on classes that the encoder never saw? The goals, and every baseline.

`python -m benchmarks.uncertainty --data CIFAR`: an encoder on five classes of CIFAR-10 for each of three splits and
their reverse, and each seed; heads on each; judged on the test images of the other five classes. The variant, and
what tier 2 is, are chosen on their training images, which also are tier 3's labelled gallery. Encoders, and what was
judged of them, are kept in `--work`: a second call goes on with them.
"""

import argparse
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import Row, at_once, fingerprint, parser, report, threads_each
from benchmarks.uncertainty_split import (
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
from benchmarks.uncertainty_tables import Trial, best_of, goals, methods, sees_degraded
from vssl.files import atomic_write
from vssl.images.decoding import Preprocessing
from vssl.measures.uncertainty import neighbour_is_wrong
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.embedder import embeddings_of
from vssl_training.encoder.weights import load_embedder
from vssl_training.recipe.reading import load_recipe

SPLITS = 3
MOST_DEGRADED = 1_000


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


if __name__ == "__main__":
    main()

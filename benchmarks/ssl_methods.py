"""VSSL beside BYOL, MoCo v3, SimCLR and SimSiam: the same backbone, heads, views, optimiser and batches.

Every method trains on the training images, without labels, from the same recipe; only what is minimised differs. Each
has two budgets: the same number of epochs, and then the core-minutes that the slowest method took for those. The losses
of BYOL, SimSiam and SimCLR are the package `lightly`'s; it has none for MoCo v3, whose cross-entropy between a student
and its moving average is PyTorch's. Each is judged by its mean head, by the backbone's features, and by these whitened
as the recipe says, which is what is exported; and by linear probes on the backbone: the online one learned beside the
method, the offline one from images as they are, or from crops and flips.

Test images are the queries, training images the bank. Choose with `--held-out 5000`: so many of the training images are
then the queries, the others are all that is trained on, and no test image is read. Rows that the JSON file already
holds under the same settings are not run again, so that a long table can be stopped.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import lightly.loss
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.encoder_variants import VARIANTS, Variant, on_trial
from benchmarks.probes import OnlineProbe, features_of_views
from benchmarks.report import DEMO_DATA, Row, at_once, earlier_rows, fingerprint, parser, report, threads_each
from benchmarks.variants import objective
from vssl.arrays import Integers
from vssl.measures.embeddings import effective_rank, knn_accuracy
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.embedder import embed
from vssl_training.encoder.embedding import IMAGES, EmbeddingLayer, build_embedding
from vssl_training.encoder.features import Features
from vssl_training.encoder.student import Encoder, update_teacher
from vssl_training.judging.linear_probes import linear_accuracy
from vssl_training.objective.terms import Gaussian
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.optimiser import optimiser_step
from vssl_training.phases.schedules import teacher_momentum, warm_up_cosine
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe
from vssl_training.run.numerics import Numerics
from vssl_training.run.record import preprocessing_of
from vssl_training.views.pixels import to_float

Loss = Callable[[Tensor, Tensor], Tensor]

VSSL = {
    "VSSL balanced": [],
    "VSSL A": ["objective.form=A"],
    "VSSL B": ["objective.form=B"],
    "VSSL raw": [],
}


def moco_v3(predicted: Tensor, target: Tensor) -> Tensor:
    """InfoNCE over the batch at temperature 0.2, times 2τ (Chen et al. 2021, arXiv 2104.02057, algorithm 1)."""
    logits = F.normalize(predicted, dim=-1) @ F.normalize(target, dim=-1).T / 0.2
    return F.cross_entropy(logits, torch.arange(len(logits))) * 0.4


PEERS: dict[str, tuple[Loss, bool, bool]] = {  # the loss; whether there is a predictor, and a teacher
    "BYOL": (lightly.loss.NegativeCosineSimilarity(), True, True),
    "MoCo v3": (moco_v3, True, True),
    "SimSiam": (lightly.loss.NegativeCosineSimilarity(), True, False),
    "SimCLR": (lightly.loss.NTXentLoss(temperature=0.2), False, False),
}
METHODS = [*VSSL, *PEERS]


def peers_settings(predicts: bool, has_teacher: bool) -> list[str]:
    """What a peer has beside the network that it shares with VSSL, of the sizes of VSSL's own networks with these."""
    predictor, momentum = "{hidden: 512}" if predicts else "null", 0.985 if has_teacher else 0
    return ["objective.coding_rate=0", f"network.predictor={predictor}", f"teacher.momentum={momentum}"]


SETTINGS = VSSL | {name: peers_settings(*networks) for name, (_, *networks) in PEERS.items()}
TRIALS = {f"VSSL: {name}": variant for name, variant in VARIANTS.items()}
"""Changes of VSSL balanced, which `--only` names."""


class Peer(EncoderTraining):
    """Another method's step on the same networks and views."""

    def __init__(self, name: str, recipe: Recipe, pixels: Tensor, seed: int, steps: int, speed: Numerics) -> None:
        super().__init__(recipe, pixels, seed, steps, speed)
        self.loss, self.predicts, _ = PEERS[name]

    def step(self, step: int) -> dict[str, Tensor]:
        """See `EncoderTraining.step`."""
        (views,) = self.views(step)
        with self.numerics.autocast(views.device):
            means, predicted, _ = (values.float() for values in self.forward_student(views)[0])
            with torch.no_grad():
                target = self.prior(views, (means, predicted, means)).mean.float()
        if self.predicts:
            (p1, p2), (t1, t2) = predicted.chunk(2), target.chunk(2)
            loss = self.loss(p1, t2) + self.loss(p2, t1)
        else:
            loss = self.loss(*means.chunk(2))
        settings = self.recipe.optimiser
        optimiser_step(
            self.optimiser, loss, settings.learning_rate * warm_up_cosine(step, self.steps, settings.warm_up)
        )
        if isinstance(self.teacher, Encoder):
            update_teacher(self.teacher, self.student, teacher_momentum(step, self.steps, self.recipe.teacher.momentum))
        return {"loss": loss.detach()}


@dataclass(frozen=True)
class Setup:
    """What all rows share: the data, the recipe by name, and how they are trained and judged."""

    data: str
    recipe: str
    bf16: bool
    per_view: bool
    held_out: int

    def images(self) -> tuple[ImageSet, ImageSet]:
        """What is trained on and is the bank, and the queries."""
        train = images(self.data, "train", self.recipe)
        if not self.held_out:
            return train, images(self.data, "test", self.recipe)
        order = np.random.default_rng(0).permutation(len(train))
        queries, bank = np.split(order, [self.held_out])
        return some(train, bank), some(train, queries)


def some(whole: ImageSet, rows: Integers) -> ImageSet:
    """These of the images."""
    labels = None if whole.labels is None else whole.labels[rows]
    return replace(whole, pixels=whole.pixels[rows], paths=[whole.paths[row] for row in rows], labels=labels)


@cache
def images(data: str, part: str, recipe: str) -> ImageSet:
    """Decoded once in each process."""
    inside = "::" if data.endswith(".zip") else "/"
    return load_images(open_source(f"{data}{inside}{part}"), preprocessing_of(load_recipe(recipe)))


def normalise_each_view(phase: EncoderTraining) -> None:
    """Let BatchNorm see one view of the batch at a time, in student and teacher, as BYOL's implementations do.

    Ours sees both at once. The views are those of a recipe without small crops.
    """
    student, teacher = phase.forward_student, phase.forward_teacher

    def student_on_each(views: Tensor) -> list[tuple[Tensor, ...]]:
        halves = [student(half)[0] for half in views.chunk(2)]
        return [tuple(torch.cat(values) for values in zip(*halves, strict=True))]

    def teacher_on_each(views: Tensor) -> Gaussian:
        assert teacher is not None
        halves = [teacher(half) for half in views.chunk(2)]
        return Gaussian(torch.cat([half.mean for half in halves]), torch.cat([half.log_variance for half in halves]))

    phase.forward_student = student_on_each
    if teacher is not None:
        phase.forward_teacher = teacher_on_each


def trained(name: str, seed: int, setup: Setup, train: ImageSet, epochs: float) -> tuple[Encoder, OnlineProbe, Row]:
    """An encoder by one method, the probe that learned beside it, and what it cost."""
    variant, speed = TRIALS.get(name, Variant(SETTINGS.get(name, []))), Numerics(bf16=setup.bf16)
    recipe, pixels = override(load_recipe(setup.recipe), variant.settings), torch.from_numpy(train.pixels)
    steps = max(1, round(epochs * (len(pixels) // recipe.optimiser.batch)))
    with on_trial(variant), objective(name.removeprefix("VSSL ")):
        phase = (
            Peer(name, recipe, pixels, seed, steps, speed)
            if name in PEERS
            else EncoderTraining(recipe, pixels, seed, steps, speed)
        )
        if setup.per_view:
            normalise_each_view(phase)
        if variant.change is not None:
            variant.change(phase)
        assert train.labels is not None
        probe = OnlineProbe(phase.student, train.labels, seed)
        spent, clock = 0.0, time.monotonic()
        for step in range(steps):
            begun = time.process_time()
            phase.step(step)
            spent += time.process_time() - begun
            probe.step(phase.order(step), warm_up_cosine(step, steps, recipe.optimiser.warm_up))
    cost = {"core_minutes": round(spent / 60, 2), "wall_minutes": round((time.monotonic() - clock) / 60, 2)}
    return variant.judged(phase), probe, {"epochs": round(epochs, 2), **cost}


def run(name: str, seed: int, budget: str, epochs: float, setup: Setup) -> Row:
    """Train one method and judge it."""
    train, queries = setup.images()
    encoder, probe, cost = trained(name, seed, setup, train, epochs)
    whitening = build_embedding(encoder.backbone, load_recipe(setup.recipe).network, encoder.mean)
    assert isinstance(whitening, EmbeddingLayer)
    fitted = train.pixels[np.random.default_rng(seed).permutation(len(train))[:IMAGES]]
    cells = embed(encoder, fitted, answer=lambda part: [whitening.pooled(encoder.backbone(to_float(part)))])[0]
    whitening.fit(torch.split(torch.from_numpy(cells), 500))

    def answer(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features: Features = encoder.backbone(to_float(part))
        return features.final, encoder.mean(features.final), whitening(features)

    (bank_features, bank, bank_whitened), (features, means, whitened) = (
        embed(encoder, part.pixels, answer=answer) for part in (train, queries)
    )
    assert train.labels is not None
    assert queries.labels is not None
    views = features_of_views(encoder, train.pixels, seed)
    return {
        "method": name,
        "seed": seed,
        "budget": budget,
        "knn": knn_accuracy(whitened, queries.labels, bank_whitened, train.labels),
        "knn_mean": knn_accuracy(means, queries.labels, bank, train.labels),
        "knn_backbone": knn_accuracy(features, queries.labels, bank_features, train.labels),
        "online": probe.accuracy(features, queries.labels),
        "linear": linear_accuracy(bank_features, train.labels, features, queries.labels),
        "linear_views": linear_accuracy(views, train.labels, features, queries.labels),
        "effective_rank": effective_rank(whitened),
        "rank_mean": effective_rank(means),
        **cost,
    }


def rows_of(
    budget: str, names: list[str], seeds: int, epochs: dict[str, float], rows: list[Row], setup: Setup, jobs: int
) -> Iterator[Row]:
    """The rows of a budget that are missing; that of the slowest method is the same in both."""
    known = {(row["method"], row["seed"], row["budget"]): row for row in rows}
    missing = [(name, seed) for seed in range(seeds) for name in names if (name, seed, budget) not in known]
    same = [each for each in missing if known.get((*each, "epochs"), {}).get("epochs") == round(epochs[each[0]], 2)]
    yield from ({**known[(*each, "epochs")], "budget": budget} for each in same)
    yield from at_once(jobs, run, [(*each, budget, epochs[each[0]], setup) for each in missing if each not in same])


def epochs_of_equal_cost(rows: list[Row], epochs: float) -> dict[str, float]:
    """Epochs by which each method costs what the slowest does, from the rows of so many epochs for all."""
    spent: dict[str, list[float]] = {}
    for row in rows:
        if row["budget"] == "epochs":
            spent.setdefault(row["method"], []).append(row["core_minutes"])
    minutes = {name: float(np.mean(each)) for name, each in spent.items()}
    return {name: epochs * max(minutes.values()) / max(each, 1e-9) for name, each in minutes.items()}


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="an archive or folder with `train` and `test` class folders")
    flags.add_argument("--recipe", default="quick")
    flags.add_argument("--epochs", type=float, default=16)
    flags.add_argument("--seeds", type=int, default=3)
    flags.add_argument("--bf16", action="store_true", help="where `vssl train --autotune` finds it to pay")
    flags.add_argument("--per-view", action="store_true", help="BatchNorm sees one view at a time, for all methods")
    flags.add_argument("--held-out", type=int, default=0, help="training images to judge by, in the test images' place")
    flags.add_argument("--only", nargs="+", choices=[*METHODS, *TRIALS], default=METHODS, help="methods to compare")
    flags.add_argument("--jobs", type=int, default=1, help="runs at once, which share the cores")
    arguments = flags.parse_args()
    epochs, seeds = (0.2, 1) if arguments.quick else (arguments.epochs, arguments.seeds)
    setup = Setup(arguments.data, arguments.recipe, arguments.bf16, arguments.per_view, arguments.held_out)
    settings = {
        "data": Path(arguments.data).name,
        "recipe": arguments.recipe,
        "recipe_sha256": fingerprint(load_recipe(arguments.recipe)),
        "epochs": epochs,
        "bf16": arguments.bf16,
        "per_view": arguments.per_view,
        "held_out": arguments.held_out,
        "threads": threads_each(arguments.jobs),
    }
    rows = earlier_rows(arguments.json, settings)
    for budget in ("epochs", "minutes"):
        each = dict.fromkeys(arguments.only, epochs) if budget == "epochs" else epochs_of_equal_cost(rows, epochs)
        for row in rows_of(budget, arguments.only, seeds, each, rows, setup, arguments.jobs):
            rows.append(row)
            report("Methods of self-supervised learning", rows, settings, arguments.json)
        for name in arguments.only:
            values = [row["knn"] for row in rows if (row["method"], row["budget"]) == (name, budget)]
            error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            print(f"{name:<20} kNN {np.mean(values):.3f} ± {error:.3f} over {len(values)} seeds at equal {budget}")


if __name__ == "__main__":
    main()

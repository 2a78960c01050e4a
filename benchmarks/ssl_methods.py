"""VSSL beside BYOL, MoCo v3, SimCLR and SimSiam: the same backbone, heads, views, optimiser, batches and steps.

Every method trains for the same number of epochs on the training images, without labels, from the same recipe; only
what is minimised differs. The losses of BYOL, SimSiam and SimCLR are the package `lightly`'s; it has none for MoCo v3,
whose cross-entropy between a student and its moving average is PyTorch's. Test images are the queries, training images
the bank. Each is judged by its mean head, by the backbone's features, and by these whitened as the recipe says: what is
exported. Rows that the JSON file already holds under the same settings are not run again, so that a long table can be
stopped.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import lightly.loss
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.report import DEMO_DATA, Row, at_once, earlier_rows, parser, report, threads_each
from benchmarks.variants import objective
from vssl.measures.embeddings import effective_rank, knn_accuracy
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.embedder import embed
from vssl_training.encoder.embedding import IMAGES, EmbeddingLayer, build_embedding
from vssl_training.encoder.features import Features
from vssl_training.encoder.student import update_teacher
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


class Peer(EncoderTraining):
    """Another method's step on the same networks and views."""

    def __init__(self, name: str, recipe: Recipe, pixels: Tensor, seed: int, steps: int, speed: Numerics) -> None:
        super().__init__(recipe, pixels, seed, steps, speed)
        self.loss, self.predicts, self.has_teacher = PEERS[name]

    def step(self, step: int) -> dict[str, Tensor]:
        """See `EncoderTraining.step`."""
        (views,) = self.views(step)
        with self.numerics.autocast(views.device):
            means, predicted, _ = (values.float() for values in self.forward_student(views)[0])
            with torch.no_grad():
                target = self.forward_teacher(views).mean.float() if self.has_teacher else means.detach()
        if self.predicts:
            (p1, p2), (t1, t2) = predicted.chunk(2), target.chunk(2)
            loss = self.loss(p1, t2) + self.loss(p2, t1)
        else:
            loss = self.loss(*means.chunk(2))
        settings = self.recipe.optimiser
        optimiser_step(
            self.optimiser, loss, settings.learning_rate * warm_up_cosine(step, self.steps, settings.warm_up)
        )
        if self.has_teacher:
            update_teacher(self.teacher, self.student, teacher_momentum(step, self.steps, self.recipe.teacher.momentum))
        return {"loss": loss.detach()}


@cache
def images(data: str, part: str, recipe: str) -> ImageSet:
    """Decoded once in each process."""
    inside = "::" if data.endswith(".zip") else "/"
    return load_images(open_source(f"{data}{inside}{part}"), preprocessing_of(load_recipe(recipe)))


def run(name: str, seed: int, data: str, recipe_name: str, epochs: float, bf16: bool) -> Row:
    """Train one method and judge it."""
    recipe, speed = load_recipe(recipe_name), Numerics(bf16=bf16)
    train, test = (images(data, part, recipe_name) for part in ("train", "test"))
    pixels = torch.from_numpy(train.pixels)
    steps = int(epochs * (len(pixels) // recipe.optimiser.batch))
    begun, clock = time.process_time(), time.monotonic()
    phase = (
        Peer(name, recipe, pixels, seed, steps, speed)
        if name in PEERS
        else EncoderTraining(override(recipe, VSSL[name]), pixels, seed, steps, speed)
    )
    with objective(name.removeprefix("VSSL ")):
        for step in range(steps):
            phase.step(step)
    minutes, wall = (time.process_time() - begun) / 60, (time.monotonic() - clock) / 60
    encoder = phase.student
    whitening = build_embedding(encoder.backbone, recipe.network, encoder.mean)
    assert isinstance(whitening, EmbeddingLayer)
    fitted = torch.from_numpy(np.random.default_rng(seed).permutation(len(pixels))[:IMAGES])
    cells = embed(encoder, pixels[fitted], answer=lambda part: [whitening.pooled(encoder.backbone(to_float(part)))])[0]
    whitening.fit(torch.split(torch.from_numpy(cells), 500))

    def answer(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features: Features = encoder.backbone(to_float(part))
        return features.final, encoder.mean(features.final), whitening(features)

    (bank_features, bank, bank_whitened), (features, means, whitened) = (
        embed(encoder, part.pixels, answer=answer) for part in (train, test)
    )
    assert train.labels is not None
    assert test.labels is not None
    return {
        "method": name,
        "seed": seed,
        "knn": knn_accuracy(whitened, test.labels, bank_whitened, train.labels),
        "knn_mean": knn_accuracy(means, test.labels, bank, train.labels),
        "knn_backbone": knn_accuracy(features, test.labels, bank_features, train.labels),
        "effective_rank": effective_rank(whitened),
        "rank_mean": effective_rank(means),
        "core_minutes": round(minutes, 2),
        "wall_minutes": round(wall, 2),
    }


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="an archive or folder with `train` and `test` class folders")
    flags.add_argument("--recipe", default="quick")
    flags.add_argument("--epochs", type=float, default=16)
    flags.add_argument("--seeds", type=int, default=2)
    flags.add_argument("--bf16", action="store_true", help="where `vssl train --autotune` finds it to pay")
    flags.add_argument("--jobs", type=int, default=1, help="runs at once, which share the cores")
    arguments = flags.parse_args()
    epochs, seeds = (0.2, 1) if arguments.quick else (arguments.epochs, arguments.seeds)
    settings = {
        "data": Path(arguments.data).name,
        "recipe": arguments.recipe,
        "epochs": epochs,
        "bf16": arguments.bf16,
        "threads": threads_each(arguments.jobs),
    }
    rows = earlier_rows(arguments.json, settings)
    known = {(row["method"], row["seed"]) for row in rows}
    tasks = [(name, seed) for seed in range(seeds) for name in [*VSSL, *PEERS] if (name, seed) not in known]
    further = (arguments.data, arguments.recipe, epochs, arguments.bf16)
    for row in at_once(arguments.jobs, run, [(*task, *further) for task in tasks]):
        rows.append(row)
        report("Methods of self-supervised learning", rows, settings, arguments.json)
    for name in [*VSSL, *PEERS]:
        values = [row["knn"] for row in rows if row["method"] == name]
        print(f"{name:<34} kNN {np.mean(values):.3f} over {len(values)} seeds")


if __name__ == "__main__":
    main()

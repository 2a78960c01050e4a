"""What each term of the objective does: one small net, one budget of steps, one switch away from the baseline a row.

The baseline is the recipe `quick`. Labels only judge: kNN of the embedding and of the backbone's features on test
images, with the training images voting; effective rank of the embedding. Uncertainty: AUROC of the exported head (of
the second phase, or of the joint one) on test images against the same ones cropped, blurred, compressed at severity 3.
Rows that the JSON file already holds under the same settings are not run again.
"""

import statistics
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import DEMO_DATA, Row, at_once, earlier_rows, fingerprint, parser, report, threads_each
from benchmarks.variants import objective
from vssl.engine import Embeddings
from vssl.errors import VsslError
from vssl.images.degradations import degrade
from vssl.measures.embeddings import effective_rank, knn_accuracy
from vssl.measures.ranking import auroc
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.embedder import Embedder, embed
from vssl_training.encoder.weights import load_embedder
from vssl_training.loop.job import TrainingOptions
from vssl_training.loop.training import train
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget, preprocessing_of

GAUSSIAN = ["objective.form=B"]
MEAN = ["network.embedding={of: mean}"]
VARIANTS: dict[str, list[str]] = {
    "balanced (baseline)": [],
    "A": ["objective.form=A"],
    "B": GAUSSIAN,
    "raw": GAUSSIAN,
    "balanced, β = 0": ["objective.beta=0"],
    "balanced, β = 0.1": ["objective.beta=0.1"],
    "B, D1": GAUSSIAN,
    "B, D3": GAUSSIAN,
    "B, β-NLL 0.5": [*GAUSSIAN, "objective.beta_nll=0.5"],
    "B, Student-t, ν = 4": GAUSSIAN,
    "B, clamped to (−2, 2)": [*GAUSSIAN, "network.clamp=[-2, 2]"],
    "no decorrelation": ["objective.decorrelation=0"],
    "decorrelation 0.2": ["objective.decorrelation=0.2"],
    "InfoNCE 1": ["objective.contrastive=1"],
    "InfoNCE 1, no decorrelation": ["objective.contrastive=1", "objective.decorrelation=0"],
    "mean, not whitened": MEAN,
    "mean, joint variance": [*MEAN, "variance.joint=true"],
    "mean, B, joint variance": [*MEAN, *GAUSSIAN, "variance.joint=true"],
    "variance without the images' detail": ["variance.detail=false"],
    "variance without the contrast": ["variance.contrast=0"],
}
"""Switches of the recipe; of rows that `variants.OBJECTIVES` names too, the objective is the one there."""
DEGRADATIONS_SHOWN = ("crop", "blur", "jpeg")
SEVERITY = 3


@cache
def images(path: str) -> ImageSet:
    """Decoded once in each process."""
    return load_images(open_source(path), preprocessing_of(load_recipe("quick")))


def with_features(embedder: Embedder, pixels: npt.NDArray[np.uint8]) -> tuple[Embeddings, npt.NDArray[np.float32]]:
    """Embeddings of images and the backbone's features [N, F], by one pass."""
    *answers, features = embed(embedder, pixels, answer=embedder.with_features)
    return Embeddings(*answers), features


def figures(run: Path, queries: ImageSet, bank: ImageSet) -> dict[str, float]:
    """What a finished run is judged by."""
    if queries.labels is None or bank.labels is None:
        raise SystemExit("--data has no class folders to judge by")
    embedder = load_embedder(Run(run))
    (query, features), (bank_answers, bank_features) = (
        with_features(embedder, queries.pixels),
        with_features(embedder, bank.pixels),
    )
    degraded = {
        kind: with_features(embedder, degrade(queries.pixels, kind, SEVERITY, 0))[0] for kind in DEGRADATIONS_SHOWN
    }
    return {
        "knn": knn_accuracy(query.embedding, queries.labels, bank_answers.embedding, bank.labels),
        "knn_backbone": knn_accuracy(features, queries.labels, bank_features, bank.labels),
        "effective_rank": effective_rank(query.embedding),
        **{f"auroc_{kind}": auroc(query.uncertainty, worse.uncertainty) for kind, worse in degraded.items()},
    }


def ablate(name: str, training: str, test: str, steps: int, seeds: int, tune: bool) -> Row:
    """The row of one variant: means over the seeds that came to their end."""
    recipe = override(load_recipe("quick"), VARIANTS[name])
    judged: list[dict[str, float]] = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            try:
                with objective(name):
                    train(recipe, training, run, Budget(steps=steps), seed, TrainingOptions(tune=tune))
            except VsslError as error:  # a form that collapses is a result too
                print(f"{name}, seed {seed}: {error}")
            else:
                judged.append(figures(run, images(test), images(training)))
    row: Row = {"objective": name, "finished": f"{len(judged)} of {seeds}"}
    if judged:
        row |= {figure: statistics.mean(each[figure] for each in judged) for figure in judged[0]}
        if seeds > 1:
            row["knn_spread"] = max(each["knn"] for each in judged) - min(each["knn"] for each in judged)
    return row


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="an archive or folder with `train` and `test` class folders")
    flags.add_argument("--steps", type=int, default=2_000, help="of both phases together")
    flags.add_argument("--seeds", type=int, default=2)
    flags.add_argument("--autotune", action="store_true", help="as of `vssl train`")
    flags.add_argument("--jobs", type=int, default=1, help="runs at once, which share the cores")
    flags.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="rows to compute")
    arguments = flags.parse_args()
    steps, seeds = (60, 1) if arguments.quick else (arguments.steps, arguments.seeds)
    names = arguments.only[:4] if arguments.quick else arguments.only
    inside = "::" if arguments.data.endswith(".zip") else "/"
    training, test = (f"{arguments.data}{inside}{part}" for part in ("train", "test"))
    settings = {
        "data": Path(arguments.data).name,
        "recipe": "quick",
        "recipe_sha256": fingerprint(load_recipe("quick")),
        "steps": steps,
        "seeds": seeds,
        "autotune": arguments.autotune,
        "threads": threads_each(arguments.jobs),
    }
    rows = earlier_rows(arguments.json, settings)
    missing = [name for name in names if name not in {row["objective"] for row in rows}]
    tasks = [(name, training, test, steps, seeds, arguments.autotune) for name in missing]
    for row in at_once(arguments.jobs, ablate, tasks):
        rows.append(row)
        report("Ablation of the objective", rows, settings, arguments.json)


if __name__ == "__main__":
    main()

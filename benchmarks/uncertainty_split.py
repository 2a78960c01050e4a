"""One encoder trained on five classes, several heads on it, and what each says of images of the five others.

Two sets of images of the unseen classes: those in `train` choose between variants and make the labelled gallery, those
in `test` only judge.
"""

import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from benchmarks.report import DEMO_DATA
from benchmarks.variants import MonteCarloHead, OrderedHead, UnmaskedHead
from vssl.engine import Embeddings
from vssl.images.decoding import Preprocessing
from vssl.images.degradations import CORRUPTIONS, degrade
from vssl.measures.ranking import auroc, ranks
from vssl.measures.uncertainty import fpr_at_acceptance
from vssl.search.nearest import nearest, normalised
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.conformal import coverage_and_size
from vssl.uncertainty.fitting import fit_gallery
from vssl.uncertainty.matches import apply_gallery_calibration, match
from vssl.uncertainty.novelty import fit_directions, novelty
from vssl_training.encoder.embedder import Embedder, build_encoder, embed, embeddings_of
from vssl_training.encoder.features import DETAIL
from vssl_training.encoder.weights import load_embedder
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import override
from vssl_training.run.folder import Run
from vssl_training.run.record import RunRecord
from vssl_training.views.pixels import to_float
from vssl_training.views.two_views import two_views

Floats = npt.NDArray[np.floating]
Pixels = npt.NDArray[np.uint8]

VARIANTS: Mapping[str, tuple[type[VarianceTraining], Sequence[str]]] = {
    "clean target": (VarianceTraining, ["variance.target=clean"]),
    "clean target, no detail": (VarianceTraining, ["variance.target=clean", "variance.detail=false"]),
    "clean target, loss ordering": (OrderedHead, ["variance.target=clean"]),
    "neighbour target": (VarianceTraining, ["variance.target=neighbour"]),
    "neighbour target, clean views contrasted": (UnmaskedHead, ["variance.target=neighbour"]),
    "neighbour target, no contrast": (VarianceTraining, ["variance.target=neighbour", "variance.contrast=0"]),
    "MC-InfoNCE": (MonteCarloHead, ["variance.contrast=0"]),
}
"""Heads: how they learn, and the recipe's switches that differ. The last one is a baseline."""
BASELINE_HEAD = "MC-InfoNCE"
SEVERITY, BATCH, TTA_PAIRS, REFERENCE = 3, 500, 4, 10


@dataclass(frozen=True)
class Judged:
    """What is known of N images of unseen classes.

    Attributes:
        answers: of each variant's embedder; the embeddings are the same.
        baselines: uncertainties [N] by other means.
        wrong: whether the nearest other image has another label [N].
        labels: [N].
        pair: tier 2: uncertainties [N] of the match with the nearest other image.
    """

    answers: dict[str, Embeddings]
    baselines: dict[str, Floats]
    pair: dict[str, Floats]
    wrong: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]

    def tier1(self) -> dict[str, Floats]:
        """Uncertainty of each head and of each baseline, by the image alone."""
        return {name: answer.uncertainty for name, answer in self.answers.items()} | self.baselines


def class_archive(source: str, classes: Sequence[str], file: Path) -> None:
    """The images of some classes as an archive, once."""
    if file.exists():
        return
    images, draft = open_source(source), file.with_suffix(".draft")
    with zipfile.ZipFile(draft, "w") as archive:
        for path in images.paths():
            if path.split("/")[0] in classes:
                archive.writestr(path, images.read(path, 2**25))
    images.close()
    draft.rename(file)


def some(source: str, classes: Sequence[str], every: int) -> ImageSet:
    """Every `every`-th image of some classes."""
    images = open_source(source)
    paths = [path for path in images.paths() if path.split("/")[0] in classes][::every]
    found = load_images(images, Preprocessing(size=32), paths)
    images.close()
    return found


def trained(archive: Path, out: Path, recipe: str, minutes: float, seed: int) -> Run:
    """A run on the archive, by `vssl train`; one that is finished already is left as it is."""
    if Run(out).finished:
        return Run(out)
    flags = ["--recipe", recipe, "--data", archive, "--out", out, "--max-minutes", minutes, "--seed", seed]
    subprocess.run([sys.executable, "-m", "vssl.cli", "train", "--autotune", *map(str, flags)], check=True)
    return Run(out)


def heads(run: Run, pixels: Pixels, steps: int) -> dict[str, Embedder]:
    """An embedder for each variant, on the run's frozen encoder; they learn from the same views at the same time."""
    record: RunRecord = run.record()
    trained_embedder = load_embedder(run)
    encoder = build_encoder(record.recipe)
    encoder.backbone.load_state_dict(trained_embedder.backbone.state_dict())
    pictures, mean = torch.from_numpy(pixels), trained_embedder.mean
    phases = {
        name: kind(override(record.recipe, list(switches)), encoder, pictures, record.seed, steps).prepare(mean)
        for name, (kind, switches) in VARIANTS.items()
    }
    first = next(iter(phases.values()))
    for step in range(steps):
        views = first.views(step)  # the encoder is frozen and the seed the same: so are the views
        coarse = replace(views, features=views.features[:, :-DETAIL])
        for phase in phases.values():
            phase.learn(step, views if phase.embedder.detail else coarse)
    return {name: phase.embedder.eval() for name, phase in phases.items()}


def judged(embedders: Mapping[str, Embedder], run: Run, images: ImageSet, seen: Floats) -> Judged:
    """Every uncertainty of the images; `seen` are embeddings of training images [M, D]."""
    assert images.labels is not None
    answers = {name: embeddings_of(embedder, images.pixels) for name, embedder in embedders.items()}
    first = next(iter(embedders))
    embedding = answers[first].embedding
    found = nearest(embedding, embedding, 1, exclude_self=True)
    rows, similarity = found.rows[:, 0], found.similarity[:, 0]
    spread = {name: answer.variance.sum(axis=1) for name, answer in answers.items()}
    pair: dict[str, Floats] = {"distance": -similarity}
    for name, own in spread.items():
        # Closed-form sampled distance to the nearest neighbour, and the sum of two ranks.
        pair[f"CSD, {name}"] = 2 - 2 * similarity + own + own[rows]
        pair[f"distance and u, {name}"] = ranks(-similarity) + 0.3 * ranks(answers[name].uncertainty)
    return Judged(
        answers=answers,
        baselines=baselines(embedders[first], run, images.pixels, embedding, seen),
        pair=pair,
        wrong=images.labels[rows] != images.labels,
        labels=images.labels,
    )


def baselines(embedder: Embedder, run: Run, pixels: Pixels, embedding: Floats, seen: Floats) -> dict[str, Floats]:
    """−‖z‖, distance to the nearest training images, and dispersion over test-time augmentations, [N] each."""
    views = run.record().recipe.views
    draws = torch.Generator().manual_seed(0)

    def answer(batch: Tensor) -> tuple[Tensor, Tensor]:
        images = to_float(batch)
        lengths = embedder.mean_of(embedder.backbone(images)).norm(dim=1)
        total = torch.zeros(len(batch), embedding.shape[1])
        for _ in range(TTA_PAIRS):
            both = embedder.mean_of(embedder.backbone(two_views(images, views, draws)))
            total += torch.nn.functional.normalize(both, dim=1).view(2, len(batch), -1).sum(0)
        return lengths, 1 - total.norm(dim=1) / (2 * TTA_PAIRS)

    lengths, dispersion = embed(embedder, pixels, BATCH, answer)
    near = nearest(embedding, seen, REFERENCE).similarity.mean(axis=1)
    return {
        "−‖z‖": -lengths,
        "kNN distance": -near,
        "test-time augmentation": dispersion,
    }


def degraded(embedder: Embedder, pixels: Pixels) -> dict[str, float]:
    """AUROC for each kind of degradation at severity 3."""
    clean = embeddings_of(embedder, pixels).uncertainty
    return {
        kind: auroc(clean, embeddings_of(embedder, degrade(pixels, kind, SEVERITY, 0)).uncertainty)
        for kind in CORRUPTIONS
    }


def out_of_distribution(
    embedder: Embedder, queries: Pixels, gallery: Pixels, others: Pixels, name: str
) -> dict[str, float]:
    """AUROC of images out of distribution: by u, by the distance to the gallery, by the variances' pattern."""
    inside, outside, reference = (embeddings_of(embedder, pixels) for pixels in (queries, others, gallery))
    known = np.log(reference.variance)
    mean, directions = known.mean(axis=0), fit_directions(known)
    near = (1 - nearest(x.embedding, reference.embedding, REFERENCE).similarity.mean(axis=1) for x in (inside, outside))
    odd = [novelty(np.log(x.variance), mean, directions) for x in (inside, outside)]
    return {
        f"{name} u": auroc(inside.uncertainty, outside.uncertainty),
        f"{name} distance": auroc(*near),
        f"{name} novelty": auroc(*odd),
        f"{name} fpr95": fpr_at_acceptance(odd[0], odd[1]),
    }


def other_images(how: Preprocessing) -> dict[str, Pixels]:
    """Photographs of clothes (the demo's), which chose the measure, and handwritten digits, which only judge."""
    from sklearn.datasets import load_digits

    digits = [
        Image.fromarray(np.uint8(digit / 16 * 255)).resize((how.size, how.size)) for digit in load_digits().images
    ]
    return {
        "clothes": load_images(open_source(f"{DEMO_DATA}::test"), how).pixels,
        "digits": np.stack([np.asarray(digit.convert("RGB")) for digit in digits[::2]]),
    }


def seen_by_head(embedder: Embedder, pixels: Pixels) -> Floats:
    """What the variance head sees of images [N, its columns]."""
    return embed(embedder, pixels, answer=lambda batch: [embedder.head_input(embedder.backbone(to_float(batch)))])[0]


def oracle(embedder: Embedder, known: ImageSet, wrong: npt.NDArray[np.bool_], queries: Pixels) -> Floats:
    """Uncertainties [N] by ridge regression of `wrong` [M], which takes labels, on all that the head sees.

    Not a method but a bound: what could be had from these features if labels told it what to look for.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 9)))
    model.fit(seen_by_head(embedder, known.pixels), wrong.astype(np.float64))
    found: Floats = model.predict(seen_by_head(embedder, queries))
    return found


def tier3(gallery: Judged, queries: Judged, variant: str) -> dict[str, Floats]:
    """`p_correct` [Q], whether it was `right` [Q], and whether the set at α = .1 held the label (`covered`) [Q]."""
    known, answered = gallery.answers[variant], queries.answers[variant]
    classes = int(gallery.labels.max()) + 1
    calibration = fit_gallery(known.embedding, known.uncertainty, gallery.labels, classes)
    matches = match(answered.embedding, answered.uncertainty, known.embedding, gallery.labels, classes)
    tie_break = np.random.default_rng(0).random(len(queries.labels))
    found = apply_gallery_calibration(calibration, matches, "0.1", "0.05", tie_break)
    assert coverage_and_size(found.sets, queries.labels)[1] <= classes
    return {
        "p_correct": found.p_correct,
        "right": (matches.label == queries.labels).astype(np.float64),
        "covered": found.sets[np.arange(len(queries.labels)), queries.labels].astype(np.float64),
        "size": found.sets.sum(axis=1).astype(np.float64),
        "calibrated": np.full(len(queries.labels), len(gallery.labels) * 3 // 4, np.float64),
    }


def seen_embeddings(embedder: Embedder, pixels: Pixels, most: int = 5_000) -> Floats:
    """Embeddings of some training images [M, D]."""
    picked = np.random.default_rng(1).permutation(len(pixels))[:most]
    return normalised(embeddings_of(embedder, pixels[picked]).embedding)

"""The flag `ood` where the reference images are of two kinds, of which one is rarer: what each kind is judged by.

References are images of CIFAR-10 and photographs of clothes, five to one. A bundle judges an image by two scores, its
uncertainty and its novelty, over a level that 1 % of the references pass. The first row is what `vssl calibrate` does:
both scores count among all references. The others are on trial: a mixture of Gaussians in novelty's eight directions;
clusters of the references' embeddings with scores of their own; ranks among the references whose embeddings are
nearest; and how far the scores lie from the mean of those, in units of their spread. A row is the mean of four draws:
the part flagged of clean images, which should be .01 of both kinds, and of images degraded at severity 3 and
handwritten digits, which should be much.

The ways were chosen on images of the `train` parts; `--part test` asks those of `test`.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture

from benchmarks.report import Row, parser, report
from vssl.arrays import Floats, Integers, Pixels
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.degradations import degrade
from vssl.measures.ranking import ranks
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.novelty import fit_directions

LEVEL, DRAWS, KEPT, NEAREST = 0.99, 4, 1000, 50
MIXES = ((2000, 400), (500, 100))
DEGRADED, SEVERITY, IMAGES = ("blur", "jpeg"), 3, 1000
STD = (0.05, 0.1)
"""Added to the spread of the neighbours' uncertainty and log novelty, which may be 0."""


@dataclass(frozen=True)
class Answers:
    """What a model says of N images: `u` [N], `pattern` = log σ² [N, D] and `embedding` [N, D]."""

    u: Floats
    pattern: Floats
    embedding: Floats

    def some(self, rows: Integers) -> "Answers":
        """These of them."""
        return Answers(self.u[rows], self.pattern[rows], self.embedding[rows])

    def __add__(self, other: "Answers") -> "Answers":
        pairs = ((self.u, other.u), (self.pattern, other.pattern), (self.embedding, other.embedding))
        return Answers(*(np.concatenate(pair) for pair in pairs))


Scores = Callable[[Answers, bool], tuple[Floats, Floats]]
"""Images, and whether they are the references themselves → the scores of uncertainty and pattern, [N] each."""


class Directions:
    """Log σ² along the eight directions in which the references vary most, in units of their spread."""

    def __init__(self, references: Answers) -> None:
        self.mean, self.directions = references.pattern.mean(0), fit_directions(references.pattern)

    def __call__(self, answers: Answers) -> Floats:
        """[N, 8]."""
        along: Floats = (answers.pattern - self.mean) @ self.directions.T
        return along

    def novelty(self, answers: Answers) -> Floats:
        """Squared distance to the mean, [N]."""
        distance: Floats = (self(answers) ** 2).sum(1)
        return distance


def together(references: Answers) -> Scores:
    """As `vssl calibrate` has it."""
    directions = Directions(references)
    return lambda answers, _: (answers.u, directions.novelty(answers))


def of_mixture(count: int, references: Answers) -> Scores:
    """The pattern by its distance to the nearest of so many Gaussians, in its own covariance."""
    directions = Directions(references)
    mixture = GaussianMixture(count, random_state=0, reg_covar=1e-2).fit(directions(references))

    def scores(answers: Answers, _: bool) -> tuple[Floats, Floats]:
        along = directions(answers)
        roots = zip(mixture.means_, mixture.precisions_cholesky_, strict=True)
        return answers.u, np.min([(((along - mean) @ root) ** 2).sum(1) for mean, root in roots], axis=0)

    return scores


def of_clusters(count: int, references: Answers) -> Scores:
    """Both as ranks among the references of the same of so many clusters of embeddings."""
    directions, clusters = Directions(references), KMeans(count, n_init=3, random_state=0).fit(references.embedding)
    known = list(zip(*both(directions, references), strict=True))

    def scores(answers: Answers, _: bool) -> tuple[Floats, Floats]:
        cluster, found = clusters.predict(answers.embedding), both(directions, answers)
        for each in range(count):
            theirs = np.array(known)[clusters.labels_ == each]
            for column, values in enumerate(found):
                mine = cluster == each
                values[mine] = np.searchsorted(np.sort(theirs[:, column]), values[mine]) / len(theirs)
        return found

    return scores


def of_nearest(standardised: bool, references: Answers) -> Scores:
    """Both beside those of the nearest references: as ranks among them, or in units of their spread."""
    directions = Directions(references)
    kept = references.some(np.random.default_rng(0).permutation(len(references.u))[:KEPT])
    known = both(directions, kept)

    def scores(answers: Answers, themselves: bool) -> tuple[Floats, Floats]:
        similarity = answers.embedding @ kept.embedding.T
        if themselves:
            similarity[similarity > 1 - 1e-4] = -np.inf
        nearest = np.argsort(-similarity, axis=1)[:, :NEAREST]
        of_both = zip(both(directions, answers), (each[nearest] for each in known), STD, strict=True)
        u, pattern = (compared(values, theirs, least) for values, theirs, least in of_both)
        return u, pattern

    def compared(values: Floats, theirs: Floats, least: float) -> Floats:
        if standardised:
            units: Floats = (values - theirs.mean(1)) / (theirs.std(1) + least)
            return units
        over: Floats = np.maximum(0, values - theirs.max(1))
        share: Floats = (theirs < values[:, None]).mean(1) + over
        return share

    return scores


def both(directions: Directions, answers: Answers) -> tuple[Floats, Floats]:
    """Uncertainty and log novelty, copies [N] each."""
    return answers.u.copy(), np.log1p(directions.novelty(answers))


WAYS: dict[str, Callable[[Answers], Scores]] = {
    "all references (today)": together,
    "mixture of 2": partial(of_mixture, 2),
    "mixture of 4": partial(of_mixture, 4),
    "2 clusters": partial(of_clusters, 2),
    "4 clusters": partial(of_clusters, 4),
    "ranks among the nearest 50": partial(of_nearest, False),
    "spread of the nearest 50": partial(of_nearest, True),
}


def flagged(way: Callable[[Answers], Scores], references: Answers, asked: dict[str, Answers]) -> list[float]:
    """The part of each of `asked` that lies over one of two thresholds, of one level, which 1 % of references do."""
    scores = way(references)
    known = scores(references, True)
    level = np.quantile(np.maximum(*(ranks(each) for each in known)) - 1, LEVEL) / (len(references.u) - 1)
    limits = [np.quantile(each, level) for each in known]
    found = [scores(answers, False) for answers in asked.values()]
    return [float(((u > limits[0]) | (pattern > limits[1])).mean()) for u, pattern in found]


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--cifar", required=True, help="an archive or folder with `train` and `test` class folders")
    flags.add_argument("--clothing", required=True, help="the same, of photographs")
    flags.add_argument("--bundle", default="builtin:tiny")
    flags.add_argument("--part", choices=("train", "test"), default="train")
    arguments = flags.parse_args()
    rows = table(arguments)
    settings = {"bundle": arguments.bundle, "part": arguments.part, "draws": DRAWS}
    report("The flag `ood` with references of two kinds", rows, settings, arguments.json)


def table(arguments: Namespace) -> list[Row]:
    """The part flagged, of each way and number of references."""
    bundle = open_bundle(arguments.bundle)
    engine, rng = Engine(bundle), np.random.default_rng(0)

    def answers(pixels: Pixels) -> Answers:
        found = engine(pixels)
        return Answers(found.uncertainty.astype(np.float64), np.log(found.variance.astype(float)), found.embedding)

    with tempfile.TemporaryDirectory() as folder:
        for number, digit in enumerate(load_digits().images):
            Image.fromarray(np.uint8(digit / digit.max() * 255)).save(Path(folder, f"{number:04d}.png"))
        digits = answers(load_images(open_source(folder), bundle.manifest.preprocessing).pixels)
    clean: list[Answers] = []
    degraded: dict[str, Answers] = {}
    for name, data in (("CIFAR-10", arguments.cifar), ("clothes", arguments.clothing)):
        pixels = load_images(open_source(f"{data}::{arguments.part}"), bundle.manifest.preprocessing).pixels
        pixels = pixels[rng.permutation(len(pixels))[:6000]]
        clean.append(answers(pixels))
        struck = pixels[:IMAGES]
        degraded |= {f"{name}, {kind}": answers(degrade(struck, kind, SEVERITY, 0)) for kind in DEGRADED}
    rows: list[Row] = []
    for mix in MIXES:
        found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
        for _ in range(1 if arguments.quick else DRAWS):
            orders = [rng.permutation(len(each.u)) for each in clean]
            picked, others = (
                [each.some(order[part]) for each, order, part in zip(clean, orders, parts, strict=True)]
                for parts in ([slice(0, count) for count in mix], [slice(count, None) for count in mix])
            )
            asked = {"CIFAR-10": others[0], "clothes": others[1], **degraded, "digits": digits}
            for name, way in WAYS.items():
                found[name].append(flagged(way, picked[0] + picked[1], asked))
        for name, parts_flagged in found.items():
            means = np.mean(parts_flagged, axis=0).tolist()
            rows.append({"references": f"{mix[0]} + {mix[1]}", "way": name, **dict(zip(asked, means, strict=True))})
    return rows


if __name__ == "__main__":
    main()

"""Whether an answer says that an image lies between two things: pictures mixed on purpose, so the mixture is known.

CutMix (Yun et al. 2019, arXiv 1905.04899): a rectangle of one image is laid over another at the same place. The mixture
has the shares 1 − λ and λ of the two. The table has the rank correlation of each signal with the mixture's entropy,
over clean images and mixed ones. Beside it stands the same with two images of *one* class: the edges are as many, and
the class is not in doubt. What rises with both sees the seam; what it adds between two classes is ambiguity.

Classes only choose the pairs, and give the votes of tier 3. Nothing is fitted or chosen here.
"""

from pathlib import Path

import numpy as np

from benchmarks.report import DEMO_DATA, Row, parser, report
from vssl.arrays import Float64s, Floats, Integers, Pixels
from vssl.bundle.default import default_bundle
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Embeddings, Engine
from vssl.measures.uncertainty import rank_correlation
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.familiarity import NEAREST
from vssl.uncertainty.matches import match

SHARES = (0.0, 0.125, 0.25, 0.5)
"""λ: the part of the picture that is the other image."""


def mixed(first: Pixels, second: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """Images [N, S, S, 3] with a square of about `share` of each at a random place taken from the other."""
    size = first.shape[1]
    side = round(size * share**0.5)
    out = first.copy()
    for image, other in zip(out, second, strict=True):
        top, left = rng.integers(0, size - side + 1, 2)
        image[top : top + side, left : left + side] = other[top : top + side, left : left + side]
    return out


def entropy(share: float) -> float:
    """Of the mixture of two with the shares 1 − λ and λ, in nats: 0 … ln 2."""
    return -sum(part * float(np.log(part)) for part in (share, 1 - share) if part > 0)


def pairs(labels: Integers, count: int, same: bool, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Rows of so many images, each with one of the same class or of another, [count] and [count]."""
    first = rng.permutation(len(labels))[:count]
    eligible = (np.flatnonzero((labels == labels[row]) == same) for row in first)
    partners = [rng.choice(rows[rows != row]) for row, rows in zip(first, eligible, strict=True)]
    return first, np.array(partners)


def signals(asked: Embeddings, gallery: Embeddings, labels: Integers, classes: int) -> dict[str, Floats]:
    """What each tier says of images, higher where there is more doubt."""
    matches = match(asked.embedding, asked.uncertainty, gallery.embedding, labels, classes)
    cosines: Float64s = matches.neighbours.similarity[:, :NEAREST].astype(np.float64)
    votes = matches.votes
    split = -(votes * np.log(np.where(votes > 0, votes, 1))).sum(axis=1)
    return {
        "tier 1: u": asked.uncertainty,
        "unfamiliarity: mean cosine to ten": -cosines.mean(axis=1),
        "tier 2: distance to the nearest": -cosines[:, 0],
        "tier 3: entropy of the votes, with labels": split,
    }


def correlations(engine: Engine, queries: ImageSet, gallery: ImageSet, count: int) -> list[Row]:
    """A row for each signal."""
    assert queries.labels is not None
    assert gallery.labels is not None
    known = engine(gallery.pixels)
    found: dict[str, Row] = {}
    for same, column in ((False, "two classes"), (True, "one class")):
        rng = np.random.default_rng(0)
        first, second = pairs(queries.labels, count, same, rng)
        told: dict[str, list[Floats]] = {}
        for share in SHARES:
            pictures = mixed(queries.pixels[first], queries.pixels[second], share, rng)
            for name, values in signals(engine(pictures), known, gallery.labels, len(gallery.classes)).items():
                told.setdefault(name, []).append(values)
        known_entropy = np.repeat([entropy(share) for share in SHARES], len(first))
        for name, each in told.items():
            row = found.setdefault(name, {"signal": name})
            row[column] = rank_correlation(np.concatenate(each), known_entropy)
    return list(found.values())


def images_of(bundle: Bundle, data: str, most: int) -> ImageSet:
    """So many of the images of a source, drawn at random."""
    source = open_source(data)
    paths = list(source.paths())
    rows = np.sort(np.random.default_rng(0).permutation(len(paths))[:most])
    images = load_images(source, bundle.manifest.preprocessing, [paths[row] for row in rows])
    source.close()
    return images


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="an archive with `train` and `test` class folders")
    flags.add_argument("--bundle", default=None, help="another bundle than the default model")
    flags.add_argument("--pairs", type=int, default=1_000, help="pairs of images to mix, of each sort")
    flags.add_argument("--gallery", type=int, default=5_000, help="training images to look them up in")
    arguments = flags.parse_args()
    count, most = (100, 500) if arguments.quick else (arguments.pairs, arguments.gallery)
    bundle = open_bundle(arguments.bundle or default_bundle())
    queries = images_of(bundle, f"{arguments.data}::test", count)
    gallery = images_of(bundle, f"{arguments.data}::train", most)
    if queries.labels is None or gallery.labels is None:
        raise SystemExit(f"{arguments.data}: its images lie in no class folders")
    rows = correlations(Engine(bundle), queries, gallery, count)
    settings = {
        "data": str(arguments.data).rsplit("/", 1)[-1],
        "bundle": Path(arguments.bundle or "builtin:default").name,
        "pairs": len(queries),
        "gallery": len(gallery),
    }
    report("Rank correlation with the entropy of a mixture", rows, settings, arguments.json)


if __name__ == "__main__":
    main()

"""What unlabelled references tell of an image: familiarity's signal beside others, by R-AUROC and by what is flagged.

Queries are the test images of half of the classes (six halves; `--whole` takes all at once), references 200 or 1,000
training images of the same classes, or of the others. An image is wrong if its nearest other query has another label.
Signal and k were chosen on the demo's photographs of clothes and on CIFAR-10's *training* images, then frozen; the test
images are asked here alone.
"""

import numpy as np

from benchmarks.report import DEMO_DATA, Row, parser, report
from vssl.arrays import Floats, Integers, Mask
from vssl.bundle.default import default_bundle
from vssl.bundle.reading import open_bundle
from vssl.engine import Embeddings, Engine
from vssl.measures.ranking import ranks
from vssl.measures.uncertainty import neighbour_is_wrong, r_auroc
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.familiarity import NEAREST, UNFAMILIAR, References

COUNTS = (200, 1_000)
MOST_IMAGES = 10_000


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="an archive or folder with `train` and `test` class folders")
    flags.add_argument("--bundle", default=None, help="another bundle than the default model")
    flags.add_argument("--whole", action="store_true", help="all classes at once, and no others")
    arguments = flags.parse_args()
    bundle = open_bundle(arguments.bundle or default_bundle())
    engine = Engine(bundle)

    def embedded(part: str) -> tuple[ImageSet, Embeddings]:
        source = open_source(f"{arguments.data}::{part}")
        paths = list(source.paths())
        rows = np.sort(np.random.default_rng(0).permutation(len(paths))[: 2_000 if arguments.quick else MOST_IMAGES])
        images = load_images(source, bundle.manifest.preprocessing, [paths[row] for row in rows])
        return images, engine(images.pixels)

    (train, known), (test, asked) = embedded("train"), embedded("test")
    if train.labels is None or test.labels is None:
        raise SystemExit(f"{arguments.data}: its images lie in no class folders")
    rng = np.random.default_rng(0)
    classes = np.arange(len(test.classes))
    halves = [rng.permutation(classes)[: len(classes) // 2] for _ in range(3)]
    halves = [classes] if arguments.whole else [*halves, *(np.setdiff1d(classes, half) for half in halves)]
    rows: list[Row] = []
    for count in COUNTS:
        for kind in ["same"] if arguments.whole else ["same", "other"]:
            found = [
                figures(
                    asked,
                    test.labels,
                    known.embedding[drawn(rng, np.isin(train.labels, half) == (kind == "same"), count)],
                    np.isin(test.labels, half),
                )
                for half in halves
            ]
            mean: Row = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
            rows.append({"references": count, "classes": kind, **mean})
    settings = {"data": str(arguments.data).rsplit("/", 1)[-1], "bundle": bundle.manifest.name, "k": NEAREST}
    report(
        "R-AUROC of signals from unlabelled references, and the part flagged unfamiliar", rows, settings, arguments.json
    )


def drawn(rng: np.random.Generator, eligible: Mask, count: int) -> Integers:
    """Some rows at random of those that are eligible, [at most `count`]."""
    rows: Integers = rng.permutation(np.flatnonzero(eligible))[:count]
    return rows


def figures(asked: Embeddings, labels: Integers, vectors: Floats, chosen: Mask) -> Row:
    """R-AUROC of each signal on the `chosen` queries, and the part of them and of all others that is flagged."""
    embedding, uncertainty = asked.embedding[chosen], asked.uncertainty[chosen]
    wrong = neighbour_is_wrong(embedding, labels[chosen])
    vectors = vectors.astype(np.float16).astype(np.float32)
    similarity = embedding @ vectors.T
    nearest = np.argsort(-similarity, axis=1)[:, :NEAREST]
    cosines = np.take_along_axis(similarity, nearest, axis=1)
    mean = cosines.mean(axis=1)
    signals = {
        "u": uncertainty,
        "nearest": -cosines[:, 0],
        f"{NEAREST}th": -cosines[:, -1],
        "length of mean": -np.linalg.norm(vectors[nearest].mean(axis=1), axis=1),
        "mean cosine": -mean,
        "mean cosine and u": ranks(-mean) + ranks(uncertainty),
    }
    references = References(vectors)
    flagged = references.familiarity(asked.embedding) < UNFAMILIAR
    found: Row = {name: r_auroc(signal, wrong) for name, signal in signals.items()}
    found["flagged"] = float(flagged[chosen].mean())
    return found if chosen.all() else found | {"flagged of other classes": float(flagged[~chosen].mean())}


if __name__ == "__main__":
    main()

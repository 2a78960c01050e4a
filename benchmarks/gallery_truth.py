"""How true a gallery's answers are: its probabilities, its abstentions, and what each score is worth.

CIFAR-10's training images are the gallery, its test images the queries, through every store: the answers must be the
same. Then galleries of several sizes are asked at every risk: of what they accept, no larger share may be wrong.
With `--clothing`, photographs of clothes are ranked by each score, queries by senders that the gallery does not have.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
import pyarrow as pa

from benchmarks.default_model import by_name, images_of
from benchmarks.gallery import Started, folder_of
from benchmarks.report import Row, parser, report
from vssl.arrays import Integers
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Embeddings, Engine
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import calibration_error
from vssl.sources.in_memory import ImageSet
from vssl.uncertainty.calibrated import apply_calibration
from vssl_gallery.classifying import Classified
from vssl_gallery.gallery import Classification, Gallery
from vssl_gallery.queries import Queries
from vssl_gallery.scoring import Score
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vector_column

STORES = ("lance", "postgres", "qdrant")
RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
SCORES: tuple[Score, ...] = ("cosine", "csd", "mls")
SIZES = (1000, 5000, 20_000, 50_000)
ALPHA = 0.1
WRITTEN = 5000


def main() -> None:
    """Print the tables."""
    flags = parser(__doc__)
    flags.add_argument("--cifar", required=True, help="an archive with `train` and `test` class folders")
    flags.add_argument("--clothing", help="the same, of photographs")
    flags.add_argument("--bundle", default="builtin:tiny", help="what embeds CIFAR-10")
    flags.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    arguments = flags.parse_args()
    every = 20 if arguments.quick else 1
    asked, bank = (Embedded(arguments.bundle, f"{arguments.cifar}::{part}", every) for part in ("test", "train"))
    rows = [*stores(asked, bank, arguments), *sizes(asked, bank)]
    if arguments.clothing:
        clothes = [Embedded("builtin:default", f"{arguments.clothing}::{part}", every) for part in ("test", "train")]
        rows += scores(clothes[0], clothes[1])
    report("What galleries say", rows, {"bundle": arguments.bundle, "every": every}, arguments.json)


class Embedded:
    """The images of a source with their embeddings; `only` takes some of them."""

    def __init__(self, bundle: str, data: str, every: int) -> None:
        self.bundle: Bundle = open_bundle(bundle)
        self.images: ImageSet = images_of(self.bundle, data, every)
        self.vectors: Embeddings = Engine(self.bundle)(self.images.pixels)

    def __len__(self) -> int:
        return len(self.vectors.embedding)

    def names(self) -> list[str]:
        """The class of each."""
        assert self.images.labels is not None
        return [self.images.classes[label] for label in self.images.labels]

    def queries(self) -> Queries:
        """All of them as queries."""
        calibration = self.bundle.manifest.calibration
        flags = {} if calibration is None else apply_calibration(calibration, self.vectors).flags
        vectors = self.vectors
        return Queries(vectors.embedding, vectors.uncertainty, vectors.variance, flags.get("ood"))

    def rows(self, chosen: Integers) -> pa.Table:
        """Those of these places as rows of a gallery."""
        names = self.names()
        return pa.table(
            {
                "id": [str(place) for place in chosen],
                "label": [names[place] for place in chosen],
                "embedding": vector_column(self.vectors.embedding[chosen]),
                "variance": vector_column(self.vectors.variance[chosen]),
                "uncertainty": pa.array(self.vectors.uncertainty[chosen], pa.float32()),
            }
        )


@contextmanager
def gallery_of(bank: Embedded, store: str = "lance", size: int | None = None) -> Iterator[Gallery]:
    """A gallery of a random part of a bank, or of all of it; gone afterwards."""
    chosen = np.random.default_rng(0).permutation(len(bank))[:size]
    about = bank.bundle.manifest
    with (
        folder_of(store, None) as folder,
        closing(Started(store, folder)) as started,
        closing(open_place(started.address)) as place,
    ):
        gallery = Gallery.create(place, "truth", Spec(about.encoder_id, about.outputs.dimension))
        for first in range(0, len(chosen), WRITTEN):
            gallery.add(bank.rows(chosen[first : first + WRITTEN]))
        yield gallery


def stores(asked: Embedded, bank: Embedded, arguments: Namespace) -> list[Row]:
    """A row for each store."""
    rows: list[Row] = []
    first: Sequence[Classified] = ()
    for store in arguments.stores:
        with gallery_of(bank, store) as gallery:
            gallery.calibrate()
            found = gallery.classify(asked.queries(), ALPHA)
        first = first or found.answers
        apart = max(abs((a.p_correct or 0) - (b.p_correct or 0)) for a, b in zip(found.answers, first, strict=True))
        rows.append({"store": store, "gallery": len(bank)} | truth(found, asked) | {"most p apart": apart})
    return rows


def truth(found: Classification, asked: Embedded) -> Row:
    """How right the labels, probabilities and sets are."""
    names, answers = asked.names(), found.answers
    right = np.array([answer.label == name for answer, name in zip(answers, names, strict=True)])
    p = np.array([np.nan if answer.p_correct is None else answer.p_correct for answer in answers])
    covered = [name in (answer.prediction_set or ()) for answer, name in zip(answers, names, strict=True)]
    return {
        "right": right.mean(),
        "AUROC of p_correct": auroc(-p[right], -p[~right]),
        "ECE": calibration_error(p, right),
        f"set has the label (α {ALPHA:g})": float(np.mean(covered)),
        "labels in a set": float(np.mean([len(answer.prediction_set or ()) for answer in answers])),
    }


def sizes(asked: Embedded, bank: Embedded) -> Iterator[Row]:
    """For each size of gallery and each risk: how many are accepted, and how many of these are wrong."""
    names = asked.names()
    for size in [size for size in SIZES if size <= len(bank)]:
        with gallery_of(bank, size=size) as gallery:
            gallery.calibrate()
            for risk in RISKS:
                answers = gallery.classify(asked.queries(), ALPHA, risk).answers
                taken = [
                    answer.label == name
                    for answer, name in zip(answers, names, strict=True)
                    if answer.action == "accept"
                ]
                wrong = 1 - float(np.mean(taken)) if taken else None
                yield {"gallery": size, "risk": risk, "accepted": len(taken) / len(names), "wrong of these": wrong}


def scores(asked: Embedded, bank: Embedded) -> Iterator[Row]:
    """R@1 of each score, and how well the best match's score tells that it is wrong."""
    labels, votes = by_name(asked.images, bank.images)
    with gallery_of(bank) as gallery:
        for score in SCORES:
            found = gallery.search(asked.queries(), 1, score=score).rows
            best = votes[np.array([int(name) for name in found["id"].to_pylist()])]
            strength = found["similarity" if score == "cosine" else "score"].to_numpy()
            right = best == labels
            yield {"score": score, "R@1": right.mean(), "R-AUROC": auroc(-strength[right], -strength[~right])}


if __name__ == "__main__":
    main()

"""The figures of docs/default-model.md: the default model on photographs that it never saw, beside `builtin:tiny`.

Clothes: photographs by senders that are not among those it was fitted to (`test` folder of the Clothing dataset); its
`train` photographs are the bank. Varied photographs: one of each of 150 kinds. CIFAR-10's pictures of 32 pixels are a
sanity row. Degradations are those of `vssl.images.degradations`, at strengths drawn from 0 … 1.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.report import Row, parser, report
from vssl.arrays import Floats, Integers, Pixels
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Embeddings, Engine
from vssl.images.degradations import DEGRADATIONS
from vssl.measures.embeddings import knn_accuracy, knn_predict
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import calibration_error, r_auroc, rank_correlation
from vssl.search.nearest import NEIGHBOURS, nearest
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.calibrated import apply_calibration
from vssl.uncertainty.fitting import fit_gallery
from vssl.uncertainty.matches import apply_gallery_calibration, matches_of
from vssl_client.embedding.local import LocalEmbedder

MODELS = ("builtin:default", "builtin:tiny")
COSTLY = 0.5
"""Mean squared distance to the clean image's embedding from which a degradation should be seen."""


def main() -> None:
    """Print the tables."""
    flags = parser(__doc__)
    flags.add_argument("--clothing", required=True, help="an archive with `train` and `test` class folders")
    flags.add_argument("--photos", help="an archive of varied photographs")
    flags.add_argument("--cifar", help="CIFAR-10: an archive with `train` and `test` class folders")
    flags.add_argument("--degraded", type=int, default=300, help="images of a set that are degraded, each in all ways")
    flags.add_argument("--bundle", action="append", help="other models than the two that come with vssl")
    arguments = flags.parse_args()
    degraded = 50 if arguments.quick else arguments.degraded
    columns: dict[str, Row] = {}
    for name in arguments.bundle or MODELS:
        bundle = open_bundle(name)
        engine = Engine(bundle)
        figures: Row = {}
        test, train = (
            images_of(bundle, f"{arguments.clothing}::{part}", 10 if arguments.quick else 1)
            for part in ("test", "train")
        )
        figures |= clothes(engine, test, train)
        sets = {"clothes": test.pixels}
        if arguments.photos:
            sets["varied"] = images_of(bundle, arguments.photos).pixels
        for kind, pixels in sets.items():
            figures |= {f"{kind}: {key}": value for key, value in trusted(bundle, engine, pixels, degraded).items()}
        if arguments.cifar:
            asked, bank = (images_of(bundle, f"{arguments.cifar}::{part}", 20) for part in ("test", "train"))
            figures["CIFAR-10, a twentieth: kNN"] = knn(engine(asked.pixels), engine(bank.pixels), asked, bank)
        figures |= speeds(bundle, arguments.clothing) | start_up(name)
        figures["MB"] = sum(record.bytes for record in bundle.manifest.files.values()) / 1e6
        columns[name] = figures
    names = list(dict.fromkeys(figure for figures in columns.values() for figure in figures))
    rows = [{"figure": figure} | {name: found.get(figure) for name, found in columns.items()} for figure in names]
    ids = {name: open_bundle(name).manifest.id[:12] for name in columns}
    report("The default model", rows, {**ids, "degraded": degraded}, arguments.json)


def images_of(bundle: Bundle, data: str, every: int = 1) -> ImageSet:
    """Every so manieth image of a source, as the bundle wants them, with labels where there are class folders."""
    source = open_source(data)
    images = load_images(source, bundle.manifest.preprocessing, list(source.paths())[::every])
    source.close()
    return images


def knn(asked: Embeddings, bank: Embeddings, queries: ImageSet, banked: ImageSet) -> float:
    """kNN accuracy of queries over a bank."""
    labels, votes = by_name(queries, banked)
    return knn_accuracy(asked.embedding, labels, bank.embedding, votes)


def by_name(queries: ImageSet, banked: ImageSet) -> tuple[Integers, Integers]:
    """Labels of both sets as places in one list of classes, the bank's first."""
    assert queries.labels is not None
    assert banked.labels is not None
    classes = list(dict.fromkeys([*banked.classes, *queries.classes]))
    place = np.array([classes.index(name) for name in queries.classes])
    return place[queries.labels], banked.labels


def clothes(engine: Engine, test: ImageSet, train: ImageSet) -> Row:
    """Neighbours, and what they are worth at the three tiers of docs/uncertainty.md."""
    asked, bank = engine(test.pixels), engine(train.pixels)
    labels, votes = by_name(test, train)
    own = knn_predict(asked.embedding, asked.embedding, labels, k=1, exclude_self=True)
    found = nearest(asked.embedding, bank.embedding, NEIGHBOURS)
    matches = matches_of(found, asked.uncertainty, votes, len(train.classes))
    right = matches.label == labels
    calibration = fit_gallery(bank.embedding, bank.uncertainty, votes, len(train.classes))
    judged = apply_gallery_calibration(
        calibration, matches, "0.1", "0.1", np.linspace(0, 1, len(labels), endpoint=False)
    )
    return {
        "clothes: kNN, bank the training photographs": knn(asked, bank, test, train),
        "clothes: R@1 among the test photographs": float((own == labels).mean()),
        "clothes: neighbour wrong, AUROC by u (tier 1)": r_auroc(asked.uncertainty, ~right),
        "clothes: by the distance (tier 2)": r_auroc(-found.similarity[:, 0], ~right),
        "clothes: by p_correct (tier 3)": r_auroc(-judged.p_correct, ~right),
        "clothes: ECE of p_correct": calibration_error(judged.p_correct, right),
    }


def trusted(bundle: Bundle, engine: Engine, pixels: Pixels, most: int) -> Row:
    """Of some images and degraded copies of each: AUROC and cost by kind, truth of u, flags."""
    chosen = np.random.default_rng(0).permutation(len(pixels))[:most]
    clean = engine(pixels[chosen])
    costs: list[Floats] = [np.zeros(len(chosen))]
    told: list[Floats] = [clean.uncertainty]
    figures: Row = {}
    for kind, pictures in copies(pixels[chosen]):
        copied = engine(pictures)
        cost = np.square(copied.embedding - clean.embedding).sum(axis=1)
        costs.append(cost)
        told.append(copied.uncertainty)
        figures[f"{kind}: d² / AUROC"] = f"{cost.mean():.2f} / {auroc(clean.uncertainty, copied.uncertainty):.3f}"
    figures["rank correlation of u with d²"] = rank_correlation(np.concatenate(told), np.concatenate(costs))
    calibration = bundle.manifest.calibration
    if calibration is not None:
        whole = apply_calibration(calibration, engine(pixels))
        for flag in ("degraded", "ood"):
            figures[f"clean images flagged {flag}"] = float(whole.flags[flag].mean())
        worst = np.concatenate(told[1:])[np.concatenate(costs[1:]) > COSTLY]
        figures[f"copies with d² > {COSTLY:g} flagged degraded"] = float(
            (worst > calibration.acceptance.degraded).mean()
        )
    return figures


def copies(pixels: Pixels) -> Iterator[tuple[str, Pixels]]:
    """Each kind of degradation, with a copy of each image at a strength of its own."""
    for kind, function in DEGRADATIONS.items():
        rngs = [np.random.default_rng([1, number]) for number in range(len(pixels))]
        strengths = [rng.uniform(0, 1) for rng in rngs]
        yield kind, np.stack([function(*each) for each in zip(pixels, strengths, rngs, strict=True)])


def speeds(bundle: Bundle, clothing: str) -> Row:
    """images/s of photographs in memory as JPEG, decoding included, the best of three tries."""
    source = open_source(f"{clothing}::test")
    files = [source.read(path, 10**7) for path in list(source.paths())[:128]]
    source.close()
    found: Row = {}
    with LocalEmbedder(bundle) as embedder:
        for batch in (1, 32):
            best = 0.0
            for _ in range(3):
                begun = time.perf_counter()
                for start in range(0, len(files), batch):
                    embedder.embed_batch(files[start : start + batch])
                best = max(best, len(files) / (time.perf_counter() - begun))
            found[f"images/s at batch {batch}, with decoding"] = best
    return found


def start_up(name: str) -> Row:
    """Seconds of a process that makes a client and embeds one picture."""
    code = "\n".join(
        [
            "import sys, numpy as np",
            "from vssl_client import Client",
            "with Client(bundle=sys.argv[1]) as client:",
            "    client.embed([np.zeros((300, 400, 3), np.uint8)])",
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, name], check=True, cwd=Path(folder))
        return {"seconds from nothing to an embedding": time.perf_counter() - begun}


if __name__ == "__main__":
    main()

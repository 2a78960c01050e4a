"""What the figures of `benchmarks.photographs` fail by: other senders, another hand's degradations, or the head."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.photographs_heads import LIMIT, Answers, Fitted, Hand, Study, answers, attached, without
from benchmarks.photographs_judge import JUDGES, judged_pictures, own_pictures
from benchmarks.report import Row
from vssl.arrays import Float32s, Float64s, Floats
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.files import atomic_write
from vssl.images.decoding import decode
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import rank_correlation
from vssl.sources.opening import open_source
from vssl_training.attaching.judging import deciles

COSTLY, LEAST_COPIES = 0.5, 10
"""Squared error from which a copy is costly, and the costly copies that a kind's AUROC is taken of, at least."""

NEAR = 0.25
"""Part of the real error that the one foretold may miss it by."""

DIRECTIONS, SPREAD = 128, 0.84
"""Of a novelty: the directions it is measured in, and the quantile of clean images that is one unit over the median."""

TWO = list(JUDGES).index("two_at_once")


def hands(study: Study) -> list[Row]:
    """One head, asked about the images held back and about other senders', degraded by its own and another hand."""
    cases = {
        "held back, own hand": study.clothes.held,
        "other senders, own hand": study.by_own_hand,
        "other senders, another hand": study.judged,
    }
    return [{"asked": name, **worth(answers(study.network, cache))} for name, cache in cases.items()]


def default(study: Study) -> list[Row]:
    """The default model in the place of the head, on other senders' clothes and on photographs of many kinds."""
    sets = {"clothes of other senders": f"{study.data}::test"}
    if study.photos is not None:
        sets["photographs of many kinds"] = study.photos
    rows: list[Row] = []
    for name, location in sets.items():
        for title, hand in (("own hand", own_pictures), ("another hand", judged_pictures)):
            folder = study.on.folder.parent / "default" / f"{title} {name}".replace(" ", "-")
            rows.append({"asked": f"{name}, {title}", **worth(by_default(study, location, hand, folder))})
    return rows


def worth(said: Answers) -> Row:
    """What u is worth: by the order of all pictures, by copies that cost much, by tenths foretold.

    Of a tenth: the part of the real error that was foretold.
    """
    clean = said.uncertainty[said.kinds < 0]
    found = {}
    for number, name in enumerate(JUDGES):
        some = (said.kinds == number) & (said.error > COSTLY)
        if some.sum() >= LEAST_COPIES:
            found[name] = auroc(clean, said.uncertainty[some])
    ratios = [foretold / real for foretold, real in deciles(said.predicted.ravel(), said.error.ravel())]
    worst = min(found, key=lambda name: found[name])
    return {
        "rank correlation": rank_correlation(said.uncertainty.ravel(), said.error.ravel()),
        "kinds": len(found),
        "over .98": sum(value >= 0.98 for value in found.values()),
        "worst AUROC": found[worst],
        "of": worst,
        "tenths within a quarter": sum(abs(ratio - 1) <= NEAR for ratio in ratios),
        "foretold": " ".join(f"{ratio:.2f}" for ratio in ratios),
        **found,
    }


def by_default(study: Study, location: str, hand: Hand, folder: Path) -> Answers:
    """What the default model says of images of a location and their copies; its answers are kept in a folder."""
    bundle = open_bundle("builtin:default")
    engine, source = Engine(bundle), open_source(location)
    paths = list(source.paths())
    order = np.random.default_rng(study.on.seed).permutation(len(paths))[: study.degraded]

    def parts() -> Iterator[tuple[Float32s, Float64s, Float64s, Float32s]]:
        for number in map(int, order):
            file = folder / f"{number:06}.npz"
            if not file.exists():
                image = decode(source.read(paths[number], LIMIT), bundle.manifest.preprocessing)
                pictures, strengths = hand(image, number, study.on.seed)
                said, buffer = engine(pictures), io.BytesIO()
                foretold = said.variance.astype(np.float64).sum(1)
                np.savez(
                    buffer, e=said.embedding, u=said.uncertainty, p=foretold, s=np.array([0.0, *strengths], np.float32)
                )
                folder.mkdir(parents=True, exist_ok=True)
                with atomic_write(file) as target:
                    target.write(buffer.getbuffer())
            with np.load(file) as kept:
                yield kept["e"], kept["u"].astype(np.float64), kept["p"], kept["s"]

    vectors, u, foretold, strengths = (np.stack(column) for column in zip(*parts(), strict=True))
    source.close()
    error = np.square(vectors.astype(np.float64) - vectors[:, :1]).sum(-1)
    kinds = np.tile(np.arange(-1, len(JUDGES)), (len(order), 1))
    return Answers(vectors, u, foretold, error, kinds, strengths)


def novelty(study: Study) -> list[Row]:
    """u beside the larger of u and the novelty of the lower stages, each in units of its spread over clean images.

    The figures are rank correlations with the error: over all kinds by a head that has all of them, and over the clean
    images and each kind by a head that was trained without it; on images held back, degraded by the same hand, and on
    other senders' by another hand.
    """
    rows = [novelty_row("none", study, study.clothes)]
    for number, name in enumerate(JUDGES):
        if number != TWO:
            less = Fitted(study.clothes.photographs, without(study.clothes.cache, {number, TWO}))
            rows.append(novelty_row(name, study, less, number))
    return rows


def novelty_row(name: str, study: Study, data: Fitted, number: int | None = None) -> Row:
    """One head; `number` is that of the kind that it was trained without."""
    network = attached(study.on, data)
    own = data.cache.part(~data.photographs.held(data.cache.images))
    directions = novel_directions(own.inputs[:, 0])
    row: Row = {"trained without": name}
    held = study.clothes.held
    u_clean, n_clean = answers(network, held).uncertainty[:, 0], novel(directions, held.inputs[:, 0])
    for title, cache in (("held back", held), ("another hand", study.judged)):
        said = answers(network, cache)
        u = in_units(said.uncertainty, u_clean)
        both = np.maximum(u, in_units(novel(directions, cache.inputs), n_clean))
        asked = (said.kinds < 0) | (said.kinds == number) if number is not None else said.kinds >= -1
        row |= {f"{title}: u": rank_correlation(u[asked], said.error[asked])}
        row |= {f"{title}: with novelty": rank_correlation(both[asked], said.error[asked])}
    return row


def novel_directions(inputs: Floats) -> tuple[Float64s, Float64s]:
    """Mean [P] of clean images' statistics [N, P], and the matrix [P, D] that gives them unit variance."""
    values = inputs.astype(np.float64)
    mean, spread = values.mean(0), np.maximum(values.std(0), 1e-3)
    _, lengths, rows = np.linalg.svd((values - mean) / spread, full_matrices=False)
    kept = rows[:DIRECTIONS].T / (lengths[:DIRECTIONS] / np.sqrt(len(values)))
    return mean, kept / spread[:, None]


def novel(directions: tuple[Float64s, Float64s], inputs: Floats) -> Float64s:
    """The logarithm of the mean squared Mahalanobis distance [...] of statistics [..., P]."""
    mean, matrix = directions
    found: Float64s = np.log(np.square((inputs.astype(np.float64) - mean) @ matrix).mean(-1))
    return found


def in_units(values: Float64s, clean: Float64s) -> Float64s:
    """Values less the median of clean ones [N], in units of their spread over it."""
    middle = np.median(clean)
    found: Float64s = (values - middle) / (np.quantile(clean, SPREAD) - middle)
    return found

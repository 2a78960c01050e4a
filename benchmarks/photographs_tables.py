"""The tables of `benchmarks.photographs`."""

import time

import numpy as np

from benchmarks.photographs_heads import Answers, Fitted, Study, answers, attached, class_numbers, energy, without
from benchmarks.photographs_judge import JUDGES
from benchmarks.report import Row
from vssl.arrays import Float32s, Float64s, Floats, Int64s
from vssl.bundle.calibration_record import GalleryCalibration
from vssl.measures.embeddings import knn_accuracy
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import calibration_error, r_auroc, rank_correlation
from vssl.search.nearest import nearest, normalised
from vssl.uncertainty.calibrated import interpolate
from vssl.uncertainty.familiarity import References
from vssl.uncertainty.fitting import fit_gallery, fit_matches
from vssl.uncertainty.kinds import LEAST_ACCURACY, LEAST_CHANCE, nearest_kind
from vssl.uncertainty.matches import Matches, matches_of
from vssl_training.attaching.cache import Cache, pictures
from vssl_training.attaching.choosing import layer_of, moments_of, vectors_of
from vssl_training.attaching.copies import Copies
from vssl_training.attaching.judging import deciles, moved
from vssl_training.attaching.judging import kinds_of as fitted_kinds
from vssl_training.attaching.looking import Sight
from vssl_training.encoder.embedder import Embedder
from vssl_training.recipe.sections import WhitenSettings
from vssl_training.run.record import preprocessing_of

DIMENSIONS = (64, 128, 256, 512, 1024)
POWERS = {"PCA": 0.0, "half whitened": 0.5, "whitened": 1.0}
CALIBRATED, DRAWS = 200, 20
STRONG = 0.5
"""Strength from which a degradation is called strong."""
COSTLY = 0.5
"""Squared error from which it is called costly."""
FLAGGED = 0.95
"""Part of the clean images held back that is not flagged."""
TIMED = 32
TWO = list(JUDGES).index("two_at_once")


def quality(study: Study) -> list[Row]:
    """kNN and R@1 of each way to make the embedding; the photographs attached on are the bank."""
    bank, (test, names) = study.clothes.cache, study.split("test", study.clean)
    labels, bank_labels = class_numbers(names, study.clothes.classes)
    features, settings = bank.pooled.shape[2], study.on.recipe.network.embedding
    found = moments_of(bank, ~study.clothes.photographs.held(bank.images))
    ways: dict[str, tuple[bool, WhitenSettings | None]] = {"as it is": (False, None), "centred": (True, None)}
    for name, power in POWERS.items():
        for dimension in (each for each in DIMENSIONS if each <= features):
            ways[f"{name} {dimension}"] = (True, WhitenSettings(dimension=dimension, power=power))
    rows: list[Row] = []
    for name, (centre, whiten) in ways.items():
        layer = layer_of(settings.model_copy(update={"centre": centre, "whiten": whiten}), features, found)
        asked, known = vectors_of(layer, test)[:, 0], vectors_of(layer, bank)[:, 0]
        rows.append({"embedding": name, **neighbours(asked, labels, known, bank_labels)})
    asked, known = (answers(study.network, cache).vectors[:, 0] for cache in (test, bank))
    way = f"by attach, {study.network.dimension}"
    return [*rows, {"embedding": way, **neighbours(asked, labels, known, bank_labels)}]


def neighbours(asked: Float32s, labels: Int64s, bank: Float32s, bank_labels: Int64s) -> Row:
    """kNN and R@1 of queries [Q, D] in a bank [B, D]."""
    first = bank_labels[nearest(asked, bank, 1).rows[:, 0]]
    return {"kNN": knn_accuracy(asked, labels, bank, bank_labels), "R@1": float((first == labels).mean())}


def kinds(study: Study) -> list[Row]:
    """Each kind: what it costs, and whether u sees it."""
    return kinds_of(answers(study.network, study.judged))


def kinds_of(said: Answers) -> list[Row]:
    """Mean squared error and AUROC against clean images: of all copies, of the strong, of those that cost much."""
    clean = said.uncertainty[:, 0]
    rows: list[Row] = []
    for place, name in enumerate(JUDGES, 1):
        u, error, strength = said.uncertainty[:, place], said.error[:, place], said.strengths[:, place]
        row: Row = {"kind": name, "error": float(error.mean()), "AUROC": auroc(clean, u)}
        for title, some in (("strong", strength >= STRONG), ("costly", error > COSTLY)):
            row |= {f"{title}: share": float(some.mean())}
            row |= {f"{title}: error": float(error[some].mean()) if some.any() else None}
            row |= {f"{title}: AUROC": auroc(clean, u[some]) if some.any() else None}
        rows.append(row)
    return [*rows, {"kind": "rank correlation of u with the error", "AUROC": correlation(said)}]


def told(study: Study) -> list[Row]:
    """Of strong copies that u tells from clean images: how many are told to be of a kind, and how often that is right.

    The kinds are those of `attach`, the copies the judge's, of another hand and other senders.
    """
    kept = study.clothes.photographs.held(study.clothes.cache.images)
    own, held = (study.clothes.cache.part(some) for some in (~kept, kept))
    found, discriminants = fitted_kinds(study.network, own, held, tuple(JUDGES))
    said = answers(study.network, study.judged)
    flagged = said.uncertainty[:, 1:] > np.quantile(answers(study.network, held).uncertainty[:, 0], FLAGGED)
    asked = flagged & (said.strengths[:, 1:] >= STRONG)
    names, shifts = list(found), np.array([kind.shift for kind in found.values()])
    nearest, chances = nearest_kind(moved(study.network, study.judged), shifts, np.array(discriminants))
    good = np.array([kind.accuracy >= LEAST_ACCURACY for kind in found.values()])
    guess = np.where((chances >= LEAST_CHANCE) & good[nearest], nearest, -1).reshape(asked.shape)
    real = np.broadcast_to([names.index(name) for name in JUDGES], asked.shape)
    rows: list[Row] = []
    for number, name in [*enumerate(names), (None, "all")]:
        own_copies = asked & ((real == number) if number is not None else True)
        guesses = asked & ((guess == number) if number is not None else guess >= 0)
        row: Row = {"kind": name, "held back: right": None if number is None else found[name].accuracy}
        row |= {"strong and flagged": int(own_copies.sum()), "told to be it": int(guesses.sum())}
        row |= {"of these right": float((guess == real)[guesses].mean()) if guesses.any() else None}
        rows.append(row | {"of it told so": float((guess == real)[own_copies].mean())})
    return rows


def correlation(said: Answers, columns: list[int] | None = None) -> float:
    """Rank correlation of u with the real squared error, over clean images and copies (all, or of some columns)."""
    some = slice(None) if columns is None else [0, *columns]
    return rank_correlation(said.uncertainty[:, some].ravel(), said.error[:, some].ravel())


def predicted(study: Study) -> list[Row]:
    """Foretold beside real squared error, by deciles of what was foretold; as many clean images as copies of a kind."""
    said = answers(study.network, study.judged)
    pairs = deciles(said.predicted.ravel(), said.error.ravel())
    return [
        {"decile": number, "predicted": foretold, "real": real, "ratio": foretold / real}
        for number, (foretold, real) in enumerate(pairs, 1)
    ]


def left_out(study: Study) -> list[Row]:
    """Each kind, by a head that was trained without it."""
    full = answers(study.network, study.judged)
    return [one_left_out(study, number, full) for number in range(len(JUDGES))]


def one_left_out(study: Study, number: int, full: Answers) -> Row:
    """One kind, by a head that was trained without it, and without two at once, which may hold it; `full` had all."""
    cache = without(study.clothes.cache, {number, TWO})
    said = answers(attached(study.on, study.clothes, cache), study.judged)
    strong = full.strengths[:, number + 1] >= STRONG
    row: Row = {"kind": list(JUDGES)[number], "strong: error": float(full.error[strong, number + 1].mean())}
    for title, each in (("trained", full), ("left out", said)):
        clean, u = each.uncertainty[:, 0], each.uncertainty[:, number + 1]
        row |= {f"{title}: AUROC": auroc(clean, u), f"{title}: strong": auroc(clean, u[strong])}
        row |= {f"{title}: rank correlation": correlation(each, [number + 1])}
    return row | {"left out: over all kinds": correlation(said)}


def elsewhere(study: Study) -> list[Row]:
    """Heads asked about another kind of picture than the one that they were attached to."""
    rows: list[Row] = []
    for trained, asked, said in crossings(study):
        found = kinds_of(said)[:-1]
        strong = [row for row in found if row["strong: error"] > COSTLY]
        worst = min(strong, key=lambda row: float(row["strong: AUROC"]))
        costly = min((row for row in found if row["costly: share"] > 0.05), key=lambda row: float(row["costly: AUROC"]))
        rows.append(
            {
                "attached to": trained,
                "asked about": asked,
                "strong kinds that cost over .5": len(strong),
                "worst AUROC": worst["strong: AUROC"],
                "of": worst["kind"],
                "costly copies, worst": costly["costly: AUROC"],
                "of kind": costly["kind"],
                "rank correlation": correlation(said),
                **{row["kind"]: row["strong: AUROC"] for row in found},
            }
        )
    return rows


def crossings(study: Study) -> list[tuple[str, str, Answers]]:
    """Each head on each set that there is of the judge's."""
    found = [("clothes", "clothes", answers(study.network, study.judged))]
    if study.photos is not None:
        found.append(("clothes", "photos", answers(study.network, study.judged_photos)))
    if study.free is not None:
        found.append(("free photographs", "clothes", answers(study.network_of_others, study.judged)))
        if study.photos is not None:
            found.append(("free photographs", "photos", answers(study.network_of_others, study.judged_photos)))
    return found


def flags(study: Study) -> list[Row]:
    """The share of clean images that are flagged as degraded, before and after calibration on clothes of `val`."""
    test, val = study.split("test", study.clean)[0], study.split("val")[0]
    heads: list[tuple[str, Embedder, Fitted]] = [("clothes", study.network, study.clothes)]
    if study.free is not None:
        heads.append(("free photographs", study.network_of_others, study.others))
    rows: list[Row] = []
    for name, network, own in heads:
        u, reference = (answers(network, cache).uncertainty[:, 0] for cache in (test, val))
        rng = np.random.default_rng(0)
        after = [flagged(u, reference[rng.permutation(len(reference))[:CALIBRATED]]) for _ in range(DRAWS)]
        held = answers(network, own.held).uncertainty[:, 0]
        row: Row = {"attached to": name, "asked about": "clothes", "flagged": flagged(u, held)}
        rows.append(row | {"calibrated": float(np.mean(after)), "least": min(after), "most": max(after)})
        if study.photos is not None:
            photos = answers(network, study.judged_photos).uncertainty[:, 0]
            rows.append({"attached to": name, "asked about": "photos", "flagged": flagged(photos, held)})
    return rows


def flagged(uncertainty: Floats, reference: Floats) -> float:
    """The part over the 95 % threshold of reference images, as a calibration sets it."""
    return float((uncertainty > np.quantile(reference, 0.95)).mean())


def tiers(study: Study) -> list[Row]:
    """Are wrong neighbours told? By the image alone, three ways, by the match, and by the calibrated p_correct."""
    (test, names), (val, val_names) = study.split("test", study.clean), study.split("val")
    labels, val_labels, bank_labels = class_numbers(names, val_names, study.clothes.classes)
    classes = int(max(labels.max(), val_labels.max(), bank_labels.max())) + 1
    bank = answers(study.network, study.clothes.cache)

    def matches(cache: Cache) -> Matches:
        said = answers(study.network, cache)
        found = nearest(said.vectors[:, 0], bank.vectors[:, 0])
        return matches_of(found, said.uncertainty[:, 0], bank_labels, classes)

    asked = matches(test)
    right = asked.label == labels
    by_val = fit_matches(matches(val), val_labels, classes)
    by_itself = fit_gallery(bank.vectors[:, 0], bank.uncertainty[:, 0], bank_labels, classes)
    rows: list[Row] = [
        {"tier": "1, u", "AUROC": r_auroc(asked.evidence[:, 0], ~right)},
        {"tier": "2, distance to the neighbour", "AUROC": r_auroc(-asked.evidence[:, 1], ~right)},
    ]
    held, vectors = (normalised(answers(study.network, each).vectors[:, 0]) for each in (study.clothes.held, test))
    familiar = References(held).familiarity(vectors)
    rows.append({"tier": f"1, familiarity among {len(held)} held back", "AUROC": r_auroc(-familiar, ~right)})
    classifier = energy(study.on, test)
    if classifier is not None:
        rows.append({"tier": "1, energy of the backbone's classifier", "AUROC": r_auroc(classifier, ~right)})
    for name, calibration in ((f"{len(val_labels)} queries of val", by_val), ("the gallery itself", by_itself)):
        p = p_correct(calibration, asked)
        rows.append(
            {
                "tier": f"3, p_correct calibrated on {name}",
                "AUROC": r_auroc(-p, ~right),
                "ECE": calibration_error(p, right),
                "ECE if p were exact": exact_error(p),
                "mean p": float(p.mean()),
                "right": float(right.mean()),
            }
        )
    return rows


def exact_error(p: Float64s) -> float:
    """The ECE that probabilities [Q] have on the average of draws that follow them exactly: less can't be expected."""
    rng = np.random.default_rng(0)
    return float(np.mean([calibration_error(p, rng.random(len(p)) < p) for _ in range(200)]))


def p_correct(calibration: GalleryCalibration, matches: Matches) -> Float64s:
    """[Q]."""
    return interpolate(calibration.p_correct, matches.evidence @ np.array(calibration.weights) + calibration.bias)


def cost(study: Study) -> list[Row]:
    """Seconds of one core that attaching takes: the pass over some of the images, scaled to all, and the head."""
    recipe, photographs = study.on.recipe, study.clothes.photographs
    assert recipe.attach is not None
    copies = Copies(tuple(JUDGES), recipe.attach.copies, study.on.seed)
    sight, preprocessing = Sight(study.on.backbone, recipe), preprocessing_of(recipe)
    begun = time.process_time()
    made = [pictures(photographs, copies, preprocessing, image) for image in range(TIMED)]
    drawn = time.process_time()
    for each in made:
        assert not isinstance(each, str)
        sight(each)
    seen = time.process_time()
    attached(study.on, study.clothes)
    scale = len(photographs) / TIMED
    parts = {
        "decoding and degrading": (drawn - begun) * scale,
        "the backbone": (seen - drawn) * scale,
        "embedding and head": time.process_time() - seen,
    }
    return [{"part": part, "seconds of a core": seconds} for part, seconds in parts.items()]

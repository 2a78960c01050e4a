"""What a gallery says of a query, and when it says nothing."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest

from tests.gallery.samples import some_rows
from vssl.arrays import Floats, Integers
from vssl.errors import UsageError
from vssl.search.nearest import normalised
from vssl.uncertainty.conformal import coverage_interval
from vssl_gallery.classifying import NEAR_DUPLICATE, fit
from vssl_gallery.errors import EncoderMismatch, InvalidFilter, InvalidRows, NotAGallery, TooLarge
from vssl_gallery.gallery import CALIBRATION, Gallery
from vssl_gallery.queries import Queries
from vssl_gallery.store.contract import Place, Spec, Store
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vector_column

DIMENSION, CLASSES = 12, 8
SPEC = Spec("encoder-1", DIMENSION, {"year": "integer"}, model="tiny")


def drawn(count: int, seed: int) -> tuple[Floats, Floats, Integers]:
    """Vectors around their classes' directions, how uncertain each is, and its class: the noisier, the more so."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=count)
    noise = rng.uniform(0.2, 1.4, count)
    centres = np.eye(CLASSES, DIMENSION)
    vectors = normalised(centres[labels] + noise[:, None] * rng.normal(size=(count, DIMENSION)) / 2)
    return vectors.astype(np.float32), np.log(noise).astype(np.float32), labels


def labelled(count: int, seed: int = 0, **columns: object) -> pa.Table:
    vectors, uncertainty, labels = drawn(count, seed)
    table = {
        "id": [f"{seed}-{row}" for row in range(count)],
        "embedding": vector_column(vectors),
        "variance": vector_column(np.exp(uncertainty)[:, None] * np.ones((1, DIMENSION), np.float32)),
        "uncertainty": pa.array(uncertainty, pa.float32()),
        "label": [f"class {label}" for label in labels],
        "year": pa.array([2000 + row % 10 for row in range(count)], pa.int64()),
    }
    return pa.table({**table, **columns})


def queries(count: int, seed: int = 99) -> tuple[Queries, list[str]]:
    vectors, uncertainty, labels = drawn(count, seed)
    return Queries(vectors, uncertainty), [f"class {label}" for label in labels]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = open_place(str(tmp_path_factory.mktemp("truth")))
    yield place
    place.close()


@pytest.fixture(scope="module")
def gallery(local: Place) -> Iterator[Gallery]:
    """Calibrated, and changed by no test."""
    opened = Gallery.create(local, "calibrated", SPEC)
    opened.add(labelled(4000))
    opened.calibrate()
    yield opened
    opened.close()


@pytest.fixture
def small(local: Place, name: str) -> Iterator[Gallery]:
    opened = Gallery.create(local, name, SPEC)
    opened.add(labelled(400))
    yield opened
    opened.close()


def test_probabilities_sets_and_risk_hold_on_new_images(gallery: Gallery) -> None:
    asked, truth = queries(3000)
    found = gallery.classify(asked, alpha=0.1, risk=0.1)
    assert (found.exact, found.calibration) == (True, "fitted")
    right = np.array([answer.label == label for answer, label in zip(found.answers, truth, strict=True)])
    p = np.array([answer.p_correct for answer in found.answers], float)
    assert abs(p.mean() - right.mean()) < 0.03
    confident = p >= np.median(p)
    assert right[confident].mean() > right[~confident].mean() + 0.1
    accepted = np.array([answer.action == "accept" for answer in found.answers])
    assert accepted.any()
    assert (~right)[accepted].mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / accepted.sum())
    inside = np.mean(
        [label in (answer.prediction_set or []) for answer, label in zip(found.answers, truth, strict=True)]
    )
    low, high = coverage_interval(3000, 3000, 0.1, confidence=0.999)
    assert low <= inside <= high
    for answer in found.answers:
        low_, p_, high_ = np.array([answer.low, answer.p_correct, answer.high], float)
        assert low_ <= p_ <= high_
        assert (answer.reason in ("unlikely", "uncertain")) == (answer.action == "abstain")
    assert found.answers == gallery.classify(asked, alpha=0.1, risk=0.1).answers


def test_each_reason(gallery: Gallery, small: Gallery) -> None:
    asked, _ = queries(5)
    yes = np.ones(5, np.bool_)

    def reasons(of: Gallery, what: Queries, **options: object) -> set[tuple[object, ...]]:
        answers = of.classify(what, **options).answers  # type: ignore[arg-type]
        assert all(answer.label and answer.neighbours for answer in answers)
        return {(answer.action, answer.reason, answer.p_correct is None) for answer in answers}

    assert reasons(small, asked) == {("abstain", "uncalibrated", True)}
    assert reasons(gallery, asked, where={"year": {"$gte": 2003}}) == {("abstain", "filtered", True)}
    assert reasons(gallery, Queries(asked.embedding)) == {("abstain", "no_uncertainty", True)}
    assert reasons(gallery, Queries(asked.embedding, asked.uncertainty, ood=yes)) == {("abstain", "ood", False)}
    known = Queries(asked.embedding, asked.uncertainty, unfamiliar=yes)
    assert reasons(gallery, known) == {("abstain", "unfamiliar", False)}
    assert asked.uncertainty is not None
    blurred = Queries(asked.embedding, asked.uncertainty + 10)
    assert reasons(gallery, blurred) == {("abstain", "uncertain", False)}


def test_a_gallery_without_labels_says_nothing(local: Place, name: str) -> None:
    opened = Gallery.create(local, name, SPEC)
    asked, _ = queries(2)
    for rows in (0, 3):
        if rows:
            opened.add(labelled(rows).drop_columns(["label"]))
        found = opened.classify(asked)
        assert [(answer.label, answer.reason) for answer in found.answers] == [(None, "uncalibrated")] * 2
        with pytest.raises(UsageError, match="no row has a label"):
            opened.calibrate()
    opened.close()


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda one: one.add(labelled(20, seed=5)), False),
        (lambda one: one.add(labelled(21, seed=5)), True),
        (lambda one: one.delete({"id": {"$in": [f"0-{row}" for row in range(21)]}}), True),
        (lambda one: one.change([f"0-{row}" for row in range(60)], {"label": "class 0"}), True),
        (lambda one: one.change([f"0-{row}" for row in range(60)], {"year": 1999}), False),
        (lambda one: one.add(labelled(100, seed=6).drop_columns(["label"])), False),
    ],
)
def test_a_calibration_is_stale_when_over_a_twentieth_has_changed(
    small: Gallery, change: Callable[[Gallery], object], stale: bool
) -> None:
    small.calibrate()
    change(small)
    asked, _ = queries(3)
    found = small.classify(asked)
    assert (found.calibration == "stale") is stale
    assert all((answer.p_correct is None) is stale for answer in found.answers)
    if stale:
        small.calibrate()
        assert small.classify(asked).calibration == "fitted"


def test_the_order_of_the_rows_in_a_store_changes_no_calibration(small: Gallery) -> None:
    fitted = small.calibrate().gallery.model_dump(exclude={"created"})
    rows = pa.Table.from_batches(list(small.store.scan(None, labelled(1).column_names)))
    small.delete({"year": {"$gte": 0}})
    small.add(rows.take(np.random.default_rng(0).permutation(rows.num_rows)))
    assert small.calibrate().gallery.model_dump(exclude={"created"}) == fitted


def test_near_duplicates_teach_nothing() -> None:
    vectors, uncertainty, labels = drawn(600, 3)
    names = [f"class {label}" for label in labels]
    _, once = fit(vectors, uncertainty, names)
    copies = np.repeat(vectors, 3, axis=0)
    _, thrice = fit(copies, np.repeat(uncertainty, 3), [name for name in names for _ in range(3)])
    assert float((copies[:3] @ copies[:3].T).min()) > NEAR_DUPLICATE
    # With its copies each row would find itself: all would be right, which can't even be calibrated.
    assert thrice.measured["correct"] == pytest.approx(once.measured["correct"], abs=0.1)
    assert thrice.measured["correct"] < 0.95


def test_the_same_answers_through_every_driver(create: Callable[..., Store], gallery: Gallery) -> None:
    other = Gallery(create(SPEC))
    other.add(labelled(400))
    other.calibrate()
    asked, _ = queries(50)
    found = other.classify(asked)
    assert found.calibration == "fitted"
    best = other.search(asked, 3, columns=["label"])
    assert [answer.label for answer in found.answers] == best.rows["label"].to_pylist()[::3]
    uncertain = Queries(asked.embedding, asked.uncertainty, np.full(asked.embedding.shape, 0.01, np.float32))
    for score in ("csd", "mls"):
        ranked = other.search(uncertain, 3, score=score)
        assert ranked.rows.column_names == ["query", "similarity", "score", "id"]
        assert np.all(np.diff(ranked.rows["score"].to_numpy().reshape(-1, 3), axis=1) <= 0)


def test_rows_as_queries_find_themselves(small: Gallery) -> None:
    found = small.search(small.queries(["0-5", "0-3"]), 1)
    assert found.rows["id"].to_pylist() == ["0-5", "0-3"]
    assert small.rows(["0-9", "nothing", "0-1"], ["year"]).to_pylist() == [
        {"id": "0-9", "year": 2009},
        {"id": "0-1", "year": 2001},
    ]


def test_what_is_refused(local: Place, small: Gallery) -> None:
    with pytest.raises(EncoderMismatch, match="encoder-2"):
        Gallery(small.store, "encoder-2")
    with pytest.raises(InvalidRows, match="no such row"):
        small.queries(["nothing"])
    with pytest.raises(TooLarge):
        small.rows(["x"] * 10_001)
    with pytest.raises(UsageError, match="every row"):
        small.delete({})
    with pytest.raises(InvalidFilter):
        small.delete({"size_": 3})
    for values in ({"embedding": 1}, {"nothing": 1}, {"year": "late"}):
        with pytest.raises(InvalidRows):
            small.change(["0-1"], values)
    asked, _ = queries(1)
    for wrong in ({"k": 0}, {"k": 1001}, {"score": "best"}, {"score": "csd"}):
        with pytest.raises(UsageError):
            small.search(asked, **wrong)
    small.store.write_record(CALIBRATION, "{}")
    with pytest.raises(NotAGallery, match="calibrate it again"):
        small.classify(asked)
    assert small.delete({"year": 2001}, dry_run=True).rows == 40
    assert small.info().rows == 400
    small.add(some_rows(0, dimension=DIMENSION).select(["id", "embedding"]))

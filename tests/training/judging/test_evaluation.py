"""`vssl evaluate`: a run and its bundle are judged alike, and by the definitions of `vssl.measures.embeddings`."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.command_line import vssl_here
from tests.tiny_model import write_tiny_bundle
from vssl.engine import Engine
from vssl.errors import UsageError
from vssl.images.degradations import CORRUPTIONS, degrade
from vssl.measures.embeddings import effective_rank
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import neighbour_is_wrong, r_auroc, within_class_r_auroc
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.novelty import fit_directions, novelty
from vssl_training.judging.evaluation import evaluate
from vssl_training.judging.linear_probes import linear_accuracy
from vssl_training.judging.table import table

VSSL = Path(sys.executable).parent / "vssl"


def test_bundle_is_judged_by_the_definitions(fashion_folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    figures = evaluate(bundle.location, str(fashion_folder), None)
    images = load_images(open_source(str(fashion_folder)), bundle.manifest.preprocessing)
    embedding = Engine(bundle)(images.pixels).embedding
    assert images.labels is not None
    similarity = embedding @ embedding.T
    np.fill_diagonal(similarity, -np.inf)
    right = 0
    for row, label in zip(similarity, images.labels, strict=True):
        nearest = np.argsort(-row)[:20]
        votes = np.bincount(images.labels[nearest], np.exp(row[nearest] / 0.1), minlength=2)
        right += votes.argmax() == label
    assert figures["knn"] == pytest.approx(right / len(images))
    assert figures["effective_rank"] == pytest.approx(effective_rank(embedding))
    assert figures["images"] == 40
    assert 0 <= figures["auroc_blur_low"] <= figures["auroc_blur"] <= figures["auroc_blur_high"] <= 1


def test_uncertainty_is_judged_by_the_definitions(fashion_folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    figures = evaluate(bundle.location, str(fashion_folder), None, str(fashion_folder / "bag"))
    images = load_images(open_source(str(fashion_folder)), bundle.manifest.preprocessing)
    engine = Engine(bundle)
    answer = engine(images.pixels)
    assert images.labels is not None
    wrong = neighbour_is_wrong(answer.embedding, images.labels)
    assert figures["r_auroc"] == pytest.approx(r_auroc(answer.uncertainty, wrong))
    assert figures["r_auroc_in_class"] == pytest.approx(within_class_r_auroc(answer.uncertainty, wrong, images.labels))
    similarity = answer.embedding @ answer.embedding.T - 2 * np.eye(40)
    assert figures["r_auroc_gallery"] == pytest.approx(r_auroc(-similarity.max(axis=1), wrong))
    assert figures["r_auroc_low"] < figures["r_auroc"] < figures["r_auroc_high"]
    bags = images.labels == images.classes.index("bag")
    assert figures["ood_auroc"] == pytest.approx(auroc(answer.uncertainty, answer.uncertainty[bags]))
    assert figures["ood_fpr95_gallery"] == 1  # every bag is its own nearest neighbour
    known, asked = np.array_split(np.random.default_rng(0).permutation(40), 2)
    reference, *others = (np.log(answer.variance[rows]) for rows in (known, asked, bags))
    patterns = (novelty(x, reference.mean(axis=0), fit_directions(reference)) for x in others)
    assert figures["ood_auroc_novelty"] == pytest.approx(auroc(*patterns))
    order = np.random.default_rng(0).permutation(40)
    degraded = {kind: engine(degrade(images.pixels[order], kind, 3, 0)) for kind in CORRUPTIONS}
    error = [((one.embedding - answer.embedding[order]) ** 2).sum(axis=1) for one in degraded.values()]
    variance = [one.variance.mean(axis=1) for one in degraded.values()]
    wanted = spearmanr(np.concatenate(variance), np.concatenate(error)).statistic
    assert figures["variance_error"] == pytest.approx(wanted, abs=1e-3)


def test_run_and_json_and_a_bank(finished_run: Path, fashion_folder: Path) -> None:
    arguments = [str(finished_run), "--data", str(fashion_folder), "--bank", str(fashion_folder), "--json"]
    figures = json.loads(vssl_here("evaluate", *arguments).stdout)
    assert {
        "knn",
        "knn_backbone",
        "knn_pixels",
        "linear",
        "linear_backbone",
        "effective_rank",
        "auroc_blur",
        "auroc_crop",
        "variance_clamped",
    } <= figures.keys()
    assert figures["variance_clamped"] < 0.5
    assert figures["bank_images"] == 40


def test_the_table_holds_every_figure_once_under_its_heading() -> None:
    figures: dict[str, float | int] = {"images": 60_000, "rankme": 61.25, "knn": 0.5, "r_auroc": 0.75}
    figures |= {"r_auroc_low": 0.7, "r_auroc_high": 0.8, "new_one": 1.0}
    assert table(figures).split("\n\n") == [
        "Images\n  images                      60,000",
        "Accuracy\n  knn                          0.500",
        "Rank and spread of the embedding\n  rankme                      61.250",
        "Uncertainty: wrong against right neighbours\n  r_auroc                      0.750   0.700 to 0.800",
        "Other\n  new_one                      1.000",
    ]


def test_unlabelled_images_get_every_figure_but_knn(finished_run: Path, fashion_folder: Path) -> None:
    figures = evaluate(finished_run, str(fashion_folder / "bag"), None)
    assert "effective_rank" in figures
    assert not any(name.startswith(("knn", "linear")) for name in figures)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_splits_are_asked_and_vote(fashion_folder: Path, tmp_path: Path, kind: str) -> None:
    for index, image in enumerate(sorted(fashion_folder.rglob("*.png"))):
        target = tmp_path / "set" / ("test" if index % 4 == 0 else "train") / image.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, target / image.name)
    data = (
        tmp_path / "set"
        if kind == "folder"
        else Path(shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "set"))
    )
    bundle = write_tiny_bundle(tmp_path / "tiny").location
    figures = evaluate(bundle, str(data), None)
    assert (figures["images"], figures["bank_images"]) == (10, 30)
    assert figures == evaluate(bundle, str(tmp_path / "set" / "test"), str(tmp_path / "set" / "train"))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_linear_probe_is_as_good_as_a_logistic_regression(scale: float) -> None:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1200], order[1200:]
    known = (
        LogisticRegression(max_iter=1000).fit(images[train] / 16, labels[train]).score(images[test] / 16, labels[test])
    )
    ours = linear_accuracy(images[train] * scale, labels[train], images[test] * scale, labels[test])
    assert ours == pytest.approx(known, abs=0.015)


def test_the_linear_probe_finds_nothing_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(2000, 8)), rng.integers(0, 4, 2000)
    assert linear_accuracy(features[:1000], labels[:1000], features[1000:], labels[1000:]) == pytest.approx(
        0.25, abs=0.05
    )
    constant = np.ones((20, 3))
    assert 0 <= linear_accuracy(constant, labels[:20], constant, labels[:20]) <= 1


def test_a_run_without_torch_says_what_to_install(
    finished_run: Path, fashion_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vssl_training.run.folder", None)
    with pytest.raises(UsageError, match=r"pip install 'vssl\[train\]'"):
        evaluate(finished_run, str(fashion_folder), None)


def test_what_is_neither_run_nor_bundle_is_refused(fashion_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a run"):
        evaluate(tmp_path, str(fashion_folder), None)


def test_a_bank_of_other_classes_is_refused(finished_run: Path, fashion_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(fashion_folder / "bag", tmp_path / "hat")
    shutil.copytree(fashion_folder / "coat", tmp_path / "shoe")
    with pytest.raises(UsageError, match=r"bank's classes \['hat', 'shoe'\] are not those of the data"):
        evaluate(finished_run, str(fashion_folder), str(tmp_path))

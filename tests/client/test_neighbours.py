"""`vssl neighbours` on folders that `vssl embed` wrote: exact, calibrated where it can be, null where it can't."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.processes import vssl
from tests.conftest import FASHION
from tests.tiny_model import tiny_calibration, write_tiny_bundle
from vssl.bundle import Bundle
from vssl.fitting import fit_gallery
from vssl.gallery import judge_matches, match
from vssl.sources import labels_of
from vssl_client.look_up import lot_of
from vssl_client.table import read_embeddings

JUDGED = ("p_correct", "interval", "action", "prediction_set", "alpha")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Calibrated with flags, but not with labels."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", calibration=tiny_calibration(labelled=False))


@pytest.fixture(scope="module")
def folders(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """400 queries, all bags, and a gallery of 500 images in ten classes."""
    folder = tmp_path_factory.mktemp("embedded")
    for name, source in (("queries", "train/bag"), ("gallery", "test")):
        vssl("embed", f"{FASHION}::{source}", "-o", folder / name, "--bundle", bundle.location, "-q")
    return folder / "queries", folder / "gallery"


def neighbours(queries: Path, gallery: Path, *flags: str | Path) -> list[dict[str, Any]]:
    done = vssl("neighbours", queries, "--gallery", gallery, "--json", *flags)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_search_is_exact(folders: tuple[Path, Path]) -> None:
    queries, gallery = map(read_embeddings, folders)
    similarity = queries.embedding @ gallery.embedding.T
    rows = neighbours(*folders, "-k", "7")
    assert [row["path"] for row in rows] == queries.paths
    for row, of_query in zip(rows, similarity, strict=True):
        best = np.argsort(-of_query, kind="stable")[:7]
        assert [one["path"] for one in row["neighbours"]] == [gallery.paths[i] for i in best]
        np.testing.assert_allclose([one["similarity"] for one in row["neighbours"]], of_query[best], atol=1e-5)
        assert row["flags"].keys() == {"degraded", "ood"}
        assert [row[name] for name in ("label", *JUDGED)] == [None] * 6


def test_among_themselves_none_finds_itself(folders: tuple[Path, Path]) -> None:
    rows = neighbours(folders[1], folders[1], "-k", "1")
    assert all(row["neighbours"][0]["path"] != row["path"] for row in rows)


def test_with_labels_every_match_is_judged(folders: tuple[Path, Path]) -> None:
    queries, gallery = map(read_embeddings, folders)
    found = labels_of(gallery.paths)
    assert found is not None
    labels, names = np.array(found[0]), found[1]
    matches = match(queries.embedding, queries.uncertainty, gallery.embedding, labels, 10)
    calibration = fit_gallery(gallery.embedding, gallery.uncertainty, labels, 10)
    assert queries.flags is not None
    lot = np.array([lot_of(path) for path in queries.paths])
    wanted = judge_matches(calibration, matches, "0.2", "0.1", lot, queries.flags["ood"])
    rows = neighbours(*folders, "--labels", "-k", "2", "--alpha", "0.2", "--risk", "0.1")
    np.testing.assert_allclose([row["p_correct"] for row in rows], wanted.p_correct, atol=1e-4)
    np.testing.assert_allclose([row["interval"][0] for row in rows], wanted.low, atol=1e-4)
    assert [row["action"] for row in rows] == wanted.actions
    assert [row["label"] for row in rows] == [names[label] for label in matches.label]
    sets = [[name for name, inside in zip(names, row, strict=True) if inside] for row in wanted.sets]
    assert [row["prediction_set"] for row in rows] == sets
    assert {row["alpha"] for row in rows} == {0.2}
    assert len({row["action"] for row in rows}) > 1


def test_a_bundles_own_calibration_takes_no_fitting(folders: tuple[Path, Path], tmp_path: Path) -> None:
    gallery = read_embeddings(folders[1])
    found = labels_of(gallery.paths)
    assert found is not None
    fitted = fit_gallery(gallery.embedding, gallery.uncertainty, np.array(found[0]), 10)
    calibration = tiny_calibration() | {"gallery": fitted.model_dump(mode="json")}
    bundle = write_tiny_bundle(tmp_path / "labelled", calibration=calibration)
    for name, source in (("queries", "train/bag"), ("gallery", "test")):
        vssl("embed", f"{FASHION}::{source}", "-o", tmp_path / name, "--bundle", bundle.location, "-q")
    arguments = ("neighbours", tmp_path / "queries", "--gallery", tmp_path / "gallery", "--json", "--labels", "-k", "1")
    without_scikit_learn = "import sys; sys.modules['sklearn'] = None"
    done = vssl(*arguments, "--bundle", bundle.location, before=without_scikit_learn)
    assert done.stdout == vssl(*arguments).stdout
    refused = vssl(*arguments, before=without_scikit_learn, status=2)
    assert "pip install 'vssl[calibrate]'" in refused.stderr


@pytest.mark.parametrize("labelled", ["cls", "folders", "not at all"])
def test_labels_of_shards_are_not_the_shards_names(
    labelled: str, folders: tuple[Path, Path], bundle: Bundle, tmp_path: Path
) -> None:
    wanted = write_shards(tmp_path / "set", labelled)
    vssl("embed", tmp_path / "set", "-o", tmp_path / "gallery", "--bundle", bundle.location, "-q")
    line: list[str | Path] = ["neighbours", folders[0], "--gallery", tmp_path / "gallery", "--labels", "--json"]
    if labelled == "not at all":
        assert "400 of its 400 images have none" in vssl(*line, status=2).stderr
        return
    for line_of_query in vssl(*line).stdout.splitlines():
        row = json.loads(line_of_query)
        assert row["label"] == row["neighbours"][0]["label"] == wanted[row["neighbours"][0]["path"]]


def write_shards(folder: Path, labelled: str) -> dict[str, str]:
    """Four shards of 100 images each, and each image's label by its path."""
    folder.mkdir()
    found = {}
    with zipfile.ZipFile(FASHION) as archive:
        names = [name for name in archive.namelist() if name.startswith(("test/bag/", "test/coat/"))][:400]
        names += [name for name in archive.namelist() if name.startswith("train/sandal/")][: 400 - len(names)]
        for number, name in enumerate(names):
            label, key = name.split("/")[1], f"{number:05d}"
            inside = f"{label}/{key}.png" if labelled == "folders" else f"{key}.png"
            found[f"set-{number % 4}.tar/{inside}"] = label
            with tarfile.open(folder / f"set-{number % 4}.tar", "a") as tar:
                files = {inside: archive.read(name)} | ({f"{key}.cls": label.encode()} if labelled == "cls" else {})
                for place, data in files.items():
                    member = tarfile.TarInfo(place)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return found


def test_for_a_person(folders: tuple[Path, Path]) -> None:
    queries, gallery = folders
    lines = vssl("neighbours", queries, "--gallery", gallery, "--labels", "-k", "3").stdout.splitlines()
    assert len(lines) == 4 * 400
    assert lines[0].startswith("0000.png  uncertainty ")
    assert " bag, p " in lines[0]


def test_a_gallery_that_can_not_be_calibrated_on_gives_null_and_says_why(
    folders: tuple[Path, Path], bundle: Bundle, fashion_folder: Path, tmp_path: Path
) -> None:
    vssl("embed", fashion_folder, "-o", tmp_path / "few", "--bundle", bundle.location, "-q")
    done = vssl("neighbours", folders[0], "--gallery", tmp_path / "few", "--labels", "--json")
    assert "p_correct is null: 40 labelled images are too few" in done.stderr
    row = json.loads(done.stdout.splitlines()[0])
    assert row["label"] in ("bag", "coat")
    assert [row[name] for name in JUDGED] == [None] * 5


def test_what_makes_no_sense_is_refused(
    folders: tuple[Path, Path], bundle: Bundle, tiny_bundle: Bundle, fashion_folder: Path, tmp_path: Path
) -> None:
    queries, gallery = folders

    def complaint(*flags: str | Path, queries: Path = queries, gallery: Path = gallery) -> str:
        return vssl("neighbours", queries, "--gallery", gallery, *flags, status=2).stderr

    assert "--alpha 0.3: choose one of" in complaint("--alpha", "0.3")
    assert "that needs --labels" in complaint("--bundle", bundle.location)
    assert "400 of its 400 images have none" in complaint("--labels", gallery=queries)
    assert "not calibrated with labels" in complaint("--labels", "--bundle", bundle.location)
    assert "calibrate first" in complaint("--labels", "--bundle", tiny_bundle.location)
    assert "holds no embeddings" in complaint(queries=tmp_path)
    vssl("embed", fashion_folder, "-o", tmp_path / "other", "--bundle", tiny_bundle.location, "-q")
    assert "embed both with one bundle" in complaint(queries=tmp_path / "other")

"""`vssl neighbours` on folders that `vssl embed` wrote: exact, calibrated where it can be, null where it can't."""

import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.processes import command, vssl
from tests.command_line import vssl_here
from tests.conftest import FASHION
from tests.tiny_model import tiny_calibration, write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl.images.names import labels_of
from vssl.sources.opening import open_source
from vssl.uncertainty import fitting
from vssl.uncertainty.fitting import fit_gallery
from vssl.uncertainty.matches import apply_gallery_calibration, match
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.folder import part_writer as parts
from vssl_client.folder.job import embed_source
from vssl_client.formats.contract import FormatName
from vssl_client.neighbours import look_up
from vssl_client.neighbours.gallery import open_gallery
from vssl_client.neighbours.labels import read_labels
from vssl_client.neighbours.look_up import looked_up, tie_break_of
from vssl_client.parts.stored import read_embeddings

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
        vssl_here("embed", f"{FASHION}::{source}", "-o", folder / name, "--bundle", bundle.location, "-q")
    return folder / "queries", folder / "gallery"


def neighbours(queries: Path, gallery: Path, *flags: str | Path) -> list[dict[str, Any]]:
    done = vssl_here("neighbours", queries, "--gallery", gallery, "--json", *flags)
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
        assert row["flags"].keys() == {"degraded", "ood", "unfamiliar"}
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
    tie_break = np.array([tie_break_of(path) for path in queries.paths])
    wanted = apply_gallery_calibration(calibration, matches, "0.2", "0.1", tie_break, queries.flags["ood"])
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
        vssl_here("embed", f"{FASHION}::{source}", "-o", tmp_path / name, "--bundle", bundle.location, "-q")
    arguments = ("neighbours", tmp_path / "queries", "--gallery", tmp_path / "gallery", "--json", "--labels", "-k", "1")
    without_scikit_learn = "import sys; sys.modules['sklearn'] = None"
    done = vssl(*arguments, "--bundle", bundle.location, before=without_scikit_learn)
    assert done.stdout == vssl_here(*arguments).stdout
    refused = vssl(*arguments, before=without_scikit_learn, status=2)
    assert "pip install 'vssl[calibrate]'" in refused.stderr


@pytest.mark.parametrize("labelled", ["cls", "folders", "not at all"])
def test_labels_of_shards_are_not_the_shards_names(labelled: str, local: LocalEmbedder, tmp_path: Path) -> None:
    wanted = write_shards(tmp_path / "set", labelled)
    source = open_source(str(tmp_path / "set"))
    embed_source(source, tmp_path / "gallery", local)
    gallery = open_gallery(tmp_path / "gallery", tmp_path / "gallery")
    if labelled == "not at all":
        with pytest.raises(UsageError, match="400 of its 400 images have none"):
            read_labels(gallery, None)
        return
    labels = read_labels(gallery, None)
    paths = gallery.paths(np.arange(400))
    assert {paths[row]: labels.names[number] for row, number in enumerate(labels.numbers)} == wanted


def write_shards(folder: Path, labelled: str) -> dict[str, str]:
    """Four shards of 100 images each, and each image's label by its path."""
    folder.mkdir()
    found = {}
    with zipfile.ZipFile(FASHION) as archive:
        for number, name in enumerate(
            name for name in archive.namelist() if "train/" in name and int(name[-6:-4]) < 10
        ):
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


@pytest.mark.parametrize("format", ["npz", "jsonl"])
def test_folders_of_every_format_can_be_looked_up(
    format: FormatName, local: LocalEmbedder, fashion_folder: Path, tmp_path: Path
) -> None:
    every: list[FormatName] = ["parquet", format]
    for kind in every:
        embed_source(open_source(str(fashion_folder)), tmp_path / kind, local, format=kind)
    expected, found = (neighbours(tmp_path / kind, tmp_path / kind, "-k", "5") for kind in every)
    assert len(found) == 40
    for ours, theirs in zip(found, expected, strict=True):
        assert [one["path"] for one in ours["neighbours"]] == [one["path"] for one in theirs["neighbours"]]
        assert ours["path"] not in [one["path"] for one in ours["neighbours"]]


def test_a_large_folder_is_looked_up_piece_by_piece(
    local: LocalEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts, blocks of queries and of votes that end anywhere change nothing."""
    monkeypatch.setattr(parts, "PART_ROWS", 64)
    monkeypatch.setattr(look_up, "QUERIES", 100)
    monkeypatch.setattr(look_up, "JUDGED_AT_ONCE", 30)
    monkeypatch.setattr(fitting, "MAX_IMAGES", 300)
    embed_source(open_source(f"{FASHION}::test"), tmp_path / "gallery", local)
    small = open_gallery(tmp_path / "gallery", tmp_path / "gallery")
    labels = read_labels(small, None)
    assert labels.calibration is not None
    assert labels.calibration.images == 300
    stored = read_embeddings(tmp_path / "gallery")
    similarity = stored.embedding @ stored.embedding.T
    np.fill_diagonal(similarity, -np.inf)
    rows = list(looked_up(tmp_path / "gallery", small, 3, labels, "0.1", "0.05", []))
    assert [row["path"] for row in rows] == stored.paths
    for row, of_query in zip(rows, similarity, strict=True):
        np.testing.assert_allclose(
            [one["similarity"] for one in row["neighbours"]], np.sort(of_query)[::-1][:3], atol=1e-5
        )


def test_a_reader_who_has_had_enough_is_no_error(folders: tuple[Path, Path]) -> None:
    line = command("neighbours", folders[0], "--gallery", folders[1], "--json")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_for_a_person(folders: tuple[Path, Path]) -> None:
    queries, gallery = folders
    lines = vssl_here("neighbours", queries, "--gallery", gallery, "--labels", "-k", "3").stdout.splitlines()
    assert len(lines) == 4 * 400
    assert lines[0].startswith("0000.png  uncertainty ")
    assert " bag, p " in lines[0]


def test_a_gallery_that_can_not_be_calibrated_on_gives_null_and_says_why(
    folders: tuple[Path, Path], bundle: Bundle, fashion_folder: Path, tmp_path: Path
) -> None:
    vssl_here("embed", fashion_folder, "-o", tmp_path / "few", "--bundle", bundle.location, "-q")
    done = vssl_here("neighbours", folders[0], "--gallery", tmp_path / "few", "--labels", "--json")
    assert "p_correct is null: 40 labelled images are too few" in done.stderr
    row = json.loads(done.stdout.splitlines()[0])
    assert row["label"] in ("bag", "coat")
    assert [row[name] for name in JUDGED] == [None] * 5


def test_what_makes_no_sense_is_refused(
    folders: tuple[Path, Path], bundle: Bundle, tiny_bundle: Bundle, fashion_folder: Path, tmp_path: Path
) -> None:
    queries, gallery = folders

    def complaint(*flags: str | Path, queries: Path = queries, gallery: Path = gallery) -> str:
        return vssl_here("neighbours", queries, "--gallery", gallery, *flags, status=2).stderr

    assert "--alpha 0.3: choose one of" in complaint("--alpha", "0.3")
    assert "that needs --labels" in complaint("--bundle", bundle.location)
    assert "400 of its 400 images have none" in complaint("--labels", gallery=queries)
    assert "not calibrated with labels" in complaint("--labels", "--bundle", bundle.location)
    assert "calibrate first" in complaint("--labels", "--bundle", tiny_bundle.location)
    assert "holds no embeddings" in complaint(queries=tmp_path)
    vssl_here("embed", fashion_folder, "-o", tmp_path / "other", "--bundle", tiny_bundle.location, "-q")
    assert "embed both with one bundle" in complaint(queries=tmp_path / "other")

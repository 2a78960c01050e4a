"""`vssl calibrate`: what it writes is what its images say, whole or not at all."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import vssl_here
from tests.conftest import FASHION
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Engine
from vssl.errors import UsageError
from vssl.images.degradations import CORRUPTIONS, degrade
from vssl.measures.ranking import auroc
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.calibrated import apply_calibration
from vssl.uncertainty.familiarity import UNFAMILIAR, references_of
from vssl.uncertainty.novelty import novelty
from vssl_export.checking.calibration import calibrate

VSSL = Path(sys.executable).parent / "vssl"
DATA = f"{FASHION}::test"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    location = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny_bundle(location)
    calibrate(location, DATA, use_labels=True)
    return open_bundle(location)


@pytest.fixture(scope="module")
def images(calibrated: Bundle) -> ImageSet:
    return load_images(open_source(DATA), calibrated.manifest.preprocessing)


def test_tables_are_those_of_the_images(calibrated: Bundle, images: ImageSet) -> None:
    calibration, answer = calibrated.manifest.calibration, Engine(calibrated)(images.pixels)
    assert calibration is not None
    assert (calibration.reference.images, calibration.reference.classes) == (500, 10)
    found = apply_calibration(calibration, answer)
    rank = np.argsort(np.argsort(answer.uncertainty)) / 499 * 100
    np.testing.assert_allclose(found.percentile, rank, atol=1)
    assert found.flags["degraded"].sum() == 25
    assert found.flags["ood"].sum() == 5
    log_variance = np.log(answer.variance)
    assert calibration.novelty is not None
    mean, directions = log_variance.mean(axis=0), np.array(calibration.novelty.directions)
    assert directions.shape == (8, log_variance.shape[1])
    odd = novelty(log_variance, mean, directions) > 1.01 * calibration.novelty.threshold
    unsure = answer.uncertainty > calibration.acceptance.ood
    assert odd.any()
    assert unsure.any()
    assert (found.flags["ood"] >= odd | unsure).all()
    np.testing.assert_allclose(calibration.log_variance_mean, log_variance.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(calibration.log_variance_std, log_variance.std(axis=0), rtol=1e-3)


def test_references_make_one_image_in_a_hundred_unfamiliar(calibrated: Bundle) -> None:
    references = references_of(calibrated)
    assert references is not None
    train = load_images(open_source(f"{FASHION}::train"), calibrated.manifest.preprocessing)
    answer = Engine(calibrated)(train.pixels)
    assert 0.002 < (references.familiarity(answer.embedding) < UNFAMILIAR).mean() < 0.02
    rng = np.random.default_rng(0)
    noise = Engine(calibrated)(rng.integers(0, 256, (50, *train.pixels.shape[1:]), np.uint8))
    assert (references.familiarity(noise.embedding) < UNFAMILIAR).all()


def test_every_corruption_at_every_severity(calibrated: Bundle, images: ImageSet) -> None:
    calibration, engine = calibrated.manifest.calibration, Engine(calibrated)
    assert calibration is not None
    assert calibration.corruptions.keys() == CORRUPTIONS.keys()
    order = np.random.default_rng(0).permutation(500)
    degraded = engine(degrade(images.pixels[order], "darkness", 4, 0)).uncertainty
    wanted = auroc(engine(images.pixels).uncertainty, degraded)
    assert calibration.corruptions["darkness"][3] == pytest.approx(wanted, abs=1e-3)


def test_with_labels_matches_are_calibrated(calibrated: Bundle) -> None:
    calibration = calibrated.manifest.calibration
    assert calibration is not None
    assert calibration.confidence is not None
    assert calibration.gallery is not None
    assert (calibration.gallery.images, calibration.gallery.classes) == (500, 10)
    assert calibration.gallery.measured["auroc"] > 0.6


def test_command_without_labels_on_an_archive(tmp_path: Path, tiny_bundle: Bundle) -> None:
    location = tmp_path / "tiny.zip"
    before = write_tiny_bundle(location).manifest
    with zipfile.ZipFile(FASHION) as archive:
        names = [name for name in archive.namelist() if name.startswith("test/") and Path(name).stem < "0010"]
        archive.extractall(tmp_path, names)
    data = tmp_path / "test"
    vssl_here("calibrate", location, "--data", data)
    after = open_bundle(location).manifest
    assert after.id != before.id
    assert after.calibration is not None
    assert (after.calibration.confidence, after.calibration.gallery) == (None, None)
    assert after.model_copy(update={"calibration": None, "id": before.id}) == before
    info = vssl_here("info", location).stdout
    assert "on 100 images" in info
    assert "AUROC of jpeg" in info
    again = json.loads(vssl_here("info", location, "--json").stdout)
    assert again["calibration"]["reference"]["images"] == 100


def test_what_can_not_be_calibrated_leaves_the_bundle_as_it_was(tmp_path: Path, fashion_folder: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    with pytest.raises(UsageError, match="40 images are too few"):
        calibrate(bundle.location, str(fashion_folder), use_labels=False)
    shutil.copytree(fashion_folder / "bag", tmp_path / "bags" / "bag")
    for copy in range(5):
        shutil.copytree(fashion_folder / "bag", tmp_path / "bags" / "bag" / str(copy))
    with pytest.raises(UsageError, match="no labels"):
        calibrate(bundle.location, str(tmp_path / "bags"), use_labels=True)
    assert open_bundle(bundle.location).manifest == bundle.manifest


def test_what_is_not_among_its_images_is_said(tmp_path: Path, fashion_folder: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    shutil.copytree(fashion_folder, tmp_path / "data")
    for name in range(80):
        shutil.copy(next(fashion_folder.rglob("*.png")), tmp_path / "data" / f"{name}.png")
    (tmp_path / "data" / "cut\x1b[2J.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "data" / "phone.cr3").touch()
    command: list[str | Path] = [VSSL, "calibrate", tmp_path / "tiny", "--data", tmp_path / "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "passed over: 1 .cr3" in done.stderr
    assert "skipped cut\\u001b[2J.png: " in done.stderr


def test_one_picture_many_times_calibrates_nothing(tmp_path: Path, fashion_folder: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    (tmp_path / "data").mkdir()
    for name in range(120):
        shutil.copy(next(fashion_folder.rglob("*.png")), tmp_path / "data" / f"{name}.png")
    with pytest.raises(UsageError, match="all of its images are the same picture"):
        calibrate(tmp_path / "tiny", str(tmp_path / "data"), use_labels=False)

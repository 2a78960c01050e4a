"""From 500 images on a run carries its calibration: its bundles have percentiles and flags at once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.core.samples import fashion
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.degradations import DEGRADATIONS, degrade
from vssl.uncertainty.calibrated import apply_calibration
from vssl.uncertainty.kinds import nearest_kind
from vssl_export.bundle_writer import export_run
from vssl_export.checking.calibration import calibrate
from vssl_training.attaching.attach import AttachJob, attach_pretrained
from vssl_training.encoder.embedder import embeddings_of
from vssl_training.encoder.weights import load_embedder
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run


@pytest.fixture(scope="module")
def calibrated(attach_recipe: Recipe, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 500 pictures, and its bundle beside it."""
    folder = tmp_path_factory.mktemp("many")
    for number, pixels in enumerate(fashion(500, 32)):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    out = tmp_path_factory.mktemp("calibrated") / "run"
    attach_pretrained(attach_recipe, finished_run, AttachJob((str(folder),), out))
    export_run(out, out.with_name("bundle"), "calibrated", "1")
    return out


def test_its_bundle_is_calibrated_on_images_held_back(calibrated: Path) -> None:
    bundle = open_bundle(calibrated.with_name("bundle"))
    calibration = bundle.manifest.calibration
    assert calibration is not None
    assert calibration.reference.images == 100
    others = fashion(300, 32)[1::2]
    clean, dark = (Engine(bundle)(each) for each in (others, degrade(others, "darkness", 5, 0)))
    assert apply_calibration(calibration, clean).percentile.mean() == pytest.approx(50, abs=20)
    assert apply_calibration(calibration, dark).percentile.mean() > 80


def test_kinds_have_a_shift_and_an_accuracy_which_a_later_calibration_keeps(
    calibrated: Path, fashion_folder: Path, tmp_path: Path
) -> None:
    found, _ = Run(calibrated).calibration()
    assert found is not None
    assert found.kinds is not None
    assert found.kinds.keys() == DEGRADATIONS.keys()
    embedder = load_embedder(Run(calibrated))
    pictures = fashion(200, 32)
    before, after = (
        np.log(embeddings_of(embedder, each).variance) for each in (pictures, degrade(pictures, "noise", 3, 0))
    )
    own = after - before.mean(0)
    assert np.corrcoef(own.mean(0), found.kinds["noise"].shift)[0, 1] > 0.7
    shifts = np.array([kind.shift for kind in found.kinds.values()])
    nearest, _ = nearest_kind(own, shifts, np.array(found.discriminants))
    assert (nearest == list(DEGRADATIONS).index("noise")).mean() > 3 / len(DEGRADATIONS)  # than chance
    shutil.copytree(calibrated.with_name("bundle"), tmp_path / "bundle")
    many = tmp_path / "many"
    many.mkdir()
    for number, pixels in enumerate(pictures[:120]):
        Image.fromarray(pixels).save(many / f"{number}.png")
    again = calibrate(tmp_path / "bundle", str(many), use_labels=False).calibration
    assert again is not None
    assert (again.kinds, again.discriminants, again.reference.images) == (found.kinds, found.discriminants, 120)

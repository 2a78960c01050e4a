"""The models that come with vssl: how they are named, that nothing writes to them, what the default one is worth."""

import re
import shutil
from functools import cache
from pathlib import Path

import pytest

from tests.paths import ROOT
from vssl.bundle import default
from vssl.bundle.default import builtin_name, default_bundle, located
from vssl.bundle.reading import open_bundle
from vssl.bundle.writing import write_bundle
from vssl.engine import Embeddings, Engine
from vssl.errors import UsageError
from vssl.images.degradations import degrade
from vssl.measures.embeddings import knn_accuracy
from vssl.measures.ranking import auroc
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.calibrated import apply_calibration

CLOTHES = ROOT / "demo" / "clothes.zip"
MOST_BYTES = 12_000_000


@cache
def engine() -> Engine:
    return Engine(open_bundle("builtin:default"))


@cache
def photographs(part: str) -> ImageSet:
    return load_images(open_source(f"{CLOTHES}::{part}"), open_bundle("builtin:default").manifest.preprocessing)


@cache
def embedded(part: str) -> Embeddings:
    return engine()(photographs(part).pixels)


def test_they_are_opened_by_their_names() -> None:
    assert open_bundle("builtin:tiny").location == open_bundle(Path("builtin:tiny")).location == default.TINY
    assert located("builtin:default") == default_bundle()
    assert located(Path("some/bundle.zip")) == Path("some/bundle.zip")


def test_another_name_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match=re.escape("builtin:huge: no such model comes with vssl; there are builtin:")):
        open_bundle("builtin:huge")


def test_they_are_known_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_bundle("builtin:tiny").manifest
    assert builtin_name(manifest.id) == "builtin:tiny"
    assert builtin_name("0" * 64) is None
    monkeypatch.setattr(default, "TINY", tmp_path / "none")
    monkeypatch.setattr(default, "LOCATION", tmp_path / "none")
    assert builtin_name(manifest.id) is None


def test_no_bundle_is_written_in_their_place(tmp_path: Path) -> None:
    copy = shutil.copytree(default.TINY, tmp_path / "copy")
    bundle = open_bundle(copy)
    fields = bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    with pytest.raises(UsageError, match="builtin:tiny: comes with vssl and stays as it is; copy the folder"):
        write_bundle(Path("builtin:tiny"), fields, files)
    assert open_bundle("builtin:tiny").manifest.id == bundle.manifest.id


def test_the_default_one_is_small_calibrated_and_has_a_card() -> None:
    bundle = open_bundle("builtin:default")
    assert sum(file.bytes for file in bundle.manifest.files.values()) <= MOST_BYTES
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.backbone is not None
    assert bundle.manifest.backbone.licence == "Apache-2.0"
    card = bundle.read("README.md").decode()
    assert "Not good for" in card
    assert "labels of ImageNet" in " ".join(card.split())


def test_neighbours_of_photographs_by_other_people_have_their_class() -> None:
    queries, gallery = photographs("queries"), photographs("gallery")
    assert queries.labels is not None
    assert gallery.labels is not None
    asked, bank = embedded("queries").embedding, embedded("gallery").embedding
    assert knn_accuracy(asked, queries.labels, bank, gallery.labels) >= 0.6


@pytest.mark.parametrize("kind", ["blur", "motion_blur", "noise", "darkness", "low_resolution"])
def test_degraded_photographs_are_less_certain_and_flagged(kind: str) -> None:
    clean, degraded = embedded("queries"), engine()(degrade(photographs("queries").pixels, kind, 5, seed=0))
    assert auroc(clean.uncertainty, degraded.uncertainty) >= 0.95
    calibration = open_bundle("builtin:default").manifest.calibration
    assert calibration is not None
    assert apply_calibration(calibration, degraded).flags["degraded"].mean() >= 0.75
    assert apply_calibration(calibration, clean).flags["degraded"].mean() <= 0.15

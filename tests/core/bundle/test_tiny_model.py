"""`builtin:tiny`: small, whole, described, and as good as its card says on real images of its size."""

from functools import cache

import numpy as np
import pytest

from tests.conftest import FASHION
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Engine
from vssl.images.degradations import CORRUPTIONS, degrade
from vssl.measures.embeddings import knn_accuracy
from vssl.measures.ranking import auroc
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source

MOST_BYTES = 8_000_000


@cache
def bundle() -> Bundle:
    return open_bundle("builtin:tiny")


@cache
def engine() -> Engine:
    return Engine(bundle())


@cache
def clothes(part: str) -> ImageSet:
    return load_images(open_source(f"{FASHION}::{part}"), bundle().manifest.preprocessing)


def test_it_is_small_calibrated_and_has_a_card() -> None:
    manifest = bundle().manifest
    written = sum(file.stat().st_size for file in bundle().location.rglob("*") if file.is_file())
    assert written <= MOST_BYTES
    assert manifest.provenance.recipe["name"] == "default"
    assert manifest.calibration is not None
    assert "Not good for" in bundle().read("README.md").decode()


def test_neighbours_of_clothes_that_it_never_saw_have_their_class() -> None:
    asked, voting = (engine()(clothes(part).pixels).embedding for part in ("test", "train"))
    labels, votes = clothes("test").labels, clothes("train").labels
    assert labels is not None
    assert votes is not None
    assert knn_accuracy(asked, labels, voting, votes) >= 0.83


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_degraded_pictures_are_less_certain(kind: str) -> None:
    pixels = clothes("test").pixels
    clean, degraded = (engine()(images).uncertainty for images in (pixels, degrade(pixels, kind, 5, seed=0)))
    assert auroc(clean, degraded) >= 0.75


def test_few_clean_pictures_are_flagged() -> None:
    calibration = bundle().manifest.calibration
    assert calibration is not None
    uncertainty = engine()(clothes("test").pixels).uncertainty
    assert np.mean(uncertainty > calibration.acceptance.degraded) < 0.1

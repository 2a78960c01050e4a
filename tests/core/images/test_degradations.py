"""Degradations are fixed by their seed, keep shape and type, and grow worse with severity on real images."""

import numpy as np
import pytest

from tests.core.samples import fashion
from vssl.images.degradations import DEGRADATIONS, SEVERITIES, crop, degrade

IMAGES = fashion(40, side=32)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_the_same_seed_spoils_in_the_same_way(kind: str) -> None:
    before = IMAGES.copy()
    first = degrade(IMAGES, kind, 3, seed=7)

    assert first.shape == IMAGES.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, degrade(IMAGES, kind, 3, seed=7))
    assert np.array_equal(first[:5], degrade(IMAGES[:5], kind, 3, seed=7))
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("kind", ["crop", "noise", "occlusion"])
def test_another_seed_and_another_image_are_spoilt_otherwise(kind: str) -> None:
    alike = np.repeat(IMAGES[:1], 8, axis=0)
    spoilt = degrade(alike, kind, 3, seed=7)

    assert len(np.unique(spoilt, axis=0)) > 1
    assert not np.array_equal(spoilt, degrade(alike, kind, 3, seed=8))


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_each_severity_changes_more(kind: str) -> None:
    """Mean absolute change, over all images."""
    changes = [np.abs(degrade(IMAGES, kind, severity, seed=0).astype(int) - IMAGES).mean() for severity in SEVERITIES]

    assert changes[0] > 0
    assert changes == sorted(changes)


@pytest.mark.parametrize("side", [1, 2, 7, 224])
@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_any_side(kind: str, side: int) -> None:
    image = np.full((1, side, side, 3), 200, np.uint8)

    assert [degrade(image, kind, severity, 0).shape for severity in SEVERITIES] == [image.shape] * 5


def test_crops_cover_a_tenth_to_three_quarters_of_the_area() -> None:
    """A ramp from left to right tells by its slope how much of it is left."""
    side = 512
    ramp = np.repeat(np.tile(np.linspace(0, 255, side), (side, 1))[..., None], 3, axis=2).astype(np.uint8)
    shares = []
    for severity in SEVERITIES:
        for seed in range(40):
            row = crop(ramp, severity, np.random.default_rng(seed))[0, :, 0].astype(float)
            shares.append(((row[-1] - row[0]) / 255) ** 2)
    by_severity = np.array(shares).reshape(5, 40)

    assert shares == pytest.approx(np.clip(shares, 0.09, 0.76))
    assert min(shares) < 0.13
    assert max(shares) > 0.72
    assert np.allclose(by_severity.mean(axis=1), [0.685, 0.555, 0.425, 0.295, 0.165], atol=0.02)

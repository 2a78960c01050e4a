"""Degradations are fixed by their seed, keep shape and type, and grow worse with severity on real images."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.core.samples import fashion
from vssl.images.degradations import DEGRADATIONS, crop, degrade
from vssl.images.masks import shape
from vssl.images.strengths import SEVERITIES

GREY = fashion(40, side=32)
IMAGES = (GREY * np.random.default_rng(0).uniform(0.4, 1, (40, 1, 1, 3))).astype(np.uint8)  # in colour


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
def test_another_seed_and_another_image_are_degraded_otherwise(kind: str) -> None:
    alike = np.repeat(IMAGES[:1], 8, axis=0)
    degraded = degrade(alike, kind, 3, seed=7)

    assert len(np.unique(degraded, axis=0)) > 1
    assert not np.array_equal(degraded, degrade(alike, kind, 3, seed=8))


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_each_severity_changes_more(kind: str) -> None:
    """Mean absolute change, over all images."""
    changes = [np.abs(degrade(IMAGES, kind, severity, seed=0).astype(int) - IMAGES).mean() for severity in SEVERITIES]

    assert changes[0] > 0
    assert changes == sorted(changes)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_strength_of_nothing_does_next_to_no_harm(kind: str) -> None:
    """JPEG compression alone has no setting without a loss."""
    kept = np.stack([DEGRADATIONS[kind](image, 0.0, np.random.default_rng(1)) for image in IMAGES])
    lossy = kind in ("jpeg", "two_at_once", "underexposure")
    assert np.abs(kept.astype(int) - IMAGES).mean() <= (2.5 if lossy else 0.01)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_strengths_between_severities_lie_between_them(kind: str) -> None:
    def change(strength: float) -> float:
        degraded = [DEGRADATIONS[kind](image, strength, np.random.default_rng(1)) for image in IMAGES]
        return float(np.abs(np.stack(degraded).astype(int) - IMAGES).mean())

    low, between, high = map(change, (0.4, 0.5, 0.6))
    assert low <= between <= high


def test_severities_are_those_that_older_figures_were_measured_by() -> None:
    """The parameters as they were written before strengths were continuous, applied here by other means."""
    image, rng = IMAGES[0], np.random.default_rng
    picture = Image.fromarray(image)
    for severity in SEVERITIES:
        place = severity - 1
        degraded = {kind: degrade(image[None], kind, severity, 7)[0] for kind in DEGRADATIONS}
        assert (degraded["darkness"] == np.rint(image * (0.6, 0.4, 0.25, 0.15, 0.08)[place])).all()
        grain = rng([7, 0]).normal(0, (0.04, 0.08, 0.12, 0.18, 0.26)[place] * 255, image.shape)
        assert (degraded["noise"] == np.clip(np.rint(image + grain), 0, 255)).all()
        sigma = (1.5, 2.5, 4.0, 6.0, 8.0)[place] / 100 * 32
        assert (degraded["blur"] == np.asarray(picture.filter(ImageFilter.GaussianBlur(sigma)))).all()
        picture.save(file := io.BytesIO(), "JPEG", quality=(40, 25, 15, 8, 4)[place])
        assert (degraded["jpeg"] == np.asarray(Image.open(file))).all()
        small = (round(32 * (0.7, 0.5, 0.35, 0.25, 0.18)[place]),) * 2
        shrunk = picture.resize(small, Image.Resampling.BICUBIC).resize((32, 32), Image.Resampling.BICUBIC)
        assert (degraded["low_resolution"] == np.asarray(shrunk)).all()
        side = round(32 * (0.06, 0.12, 0.20, 0.30, 0.42)[place] ** 0.5)
        assert (degraded["occlusion"] == 128).all(2).sum() == pytest.approx(side**2, abs=8)


def test_a_moved_point_is_a_line() -> None:
    image = np.zeros((1, 101, 101, 3), np.uint8)
    image[0, 50, 50] = 255
    rows, columns = np.nonzero(degrade(image, "motion_blur", 3, 0)[0, ..., 0])
    across = np.cov(np.stack([rows, columns]))
    lengths = np.hypot(rows - 50, columns - 50)
    assert lengths.max() == pytest.approx(101 * 0.11 / 2, abs=1.5)
    assert np.linalg.eigvalsh(across)[0] < 0.5  # no wider than the pixels that it touches


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
            row = crop(ramp, severity / 5, np.random.default_rng(seed))[0, :, 0].astype(float)
            shares.append(((row[-1] - row[0]) / 255) ** 2)
    by_severity = np.array(shares).reshape(5, 40)

    assert shares == pytest.approx(np.clip(shares, 0.09, 0.76))
    assert min(shares) < 0.13
    assert max(shares) > 0.72
    assert np.allclose(by_severity.mean(axis=1), [0.685, 0.555, 0.425, 0.295, 0.165], atol=0.02)


def test_an_obstruction_covers_its_share_or_lies_in_part_outside() -> None:
    black = np.zeros((256, 256, 3), np.uint8)
    for severity, share in zip(SEVERITIES, (0.06, 0.12, 0.20, 0.30, 0.42), strict=True):
        masks = [np.asarray(shape(256, share, np.random.default_rng(seed))) / 255 for seed in range(60)]
        shares = [float(mask.mean()) for mask in masks]
        assert max(shares) == pytest.approx(share, abs=0.02)
        assert min(shares) > share / 5
        covered = degrade(np.stack([black] * 60), "obstruction", severity, 0)
        assert 0.5 < np.mean([one.any() for one in covered]) < 0.95  # black upside down is black

"""Mixtures of two images: how much is of which, and who is paired with whom."""

import numpy as np
import pytest

from benchmarks.ambiguity import entropy, mixed, pairs


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_mixture_has_its_share_of_the_other_image(share: float) -> None:
    first, second = np.zeros((3, 32, 32, 3), np.uint8), np.full((3, 32, 32, 3), 255, np.uint8)
    out = mixed(first, second, share, np.random.default_rng(0))
    assert out.mean() / 255 == pytest.approx(share)
    assert not first.any()  # the images themselves stay as they were


def test_the_entropy_is_that_of_two_shares() -> None:
    assert entropy(0.0) == 0
    assert entropy(0.5) == pytest.approx(np.log(2))
    assert entropy(0.125) == entropy(0.875) < entropy(0.25)


def test_pairs_are_of_one_class_or_of_two_and_of_two_images() -> None:
    labels = np.arange(40) % 4
    for same in (True, False):
        first, second = pairs(labels, 30, same, np.random.default_rng(0))
        assert len(set(first)) == 30
        assert ((labels[first] == labels[second]) == same).all()
        assert (first != second).all()

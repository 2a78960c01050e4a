"""What the tables of `benchmarks/uncertainty.py` may claim."""

import numpy as np

from benchmarks.uncertainty_tables import coverage_of_right_sets
from vssl.uncertainty.conformal import coverage_interval


def test_seeds_that_ask_the_same_images_make_no_interval_narrower() -> None:
    covered = [np.ones(500), np.ones(500)]
    wanted = coverage_interval(600, 1_000, 0.1)
    assert coverage_of_right_sets(300, covered) == wanted
    assert coverage_of_right_sets(300, covered * 6) == wanted

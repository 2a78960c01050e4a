"""Ranks against scikit-learn, and pairs counted one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from vssl.measures.ranking import auroc

few_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.0]), min_size=1, max_size=30)
many_values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(st.one_of(few_values, many_values), st.one_of(few_values, many_values))
@settings(deadline=None)
def test_auroc_is_scikit_learns(negatives: list[float], positives: list[float]) -> None:
    truth = np.repeat([0, 1], [len(negatives), len(positives)])
    wanted = roc_auc_score(truth, np.array(negatives + positives))

    assert auroc(np.array(negatives), np.array(positives)) == pytest.approx(wanted)


def test_auroc_counts_pairs() -> None:
    assert auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == (1 + 0.5 + 1 + 1) / 4

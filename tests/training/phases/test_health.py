"""What stops a run, and what is kept."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from vssl.errors import VsslError
from vssl_training.judging.linear_probes import RIDGE, probe_accuracy
from vssl_training.loop.training import train
from vssl_training.phases import health
from vssl_training.phases.health import Patience, collapsed, dead, not_finite
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget


def test_each_complaint_names_its_remedy() -> None:
    assert not_finite({"loss": 1.0}) is None
    assert "learning_rate" in (not_finite({"loss": float("nan")}) or "")
    assert collapsed({"std": 0.9, "rank": 4.0}) is None  # a low rank is a pity, not a collapse
    for figures in ({"std": 0.01, "rank": 9.0}, {"std": 0.5, "rank": 1.1}):
        assert "objective.coding_rate" in (collapsed(figures) or "")
    assert dead({"spread": 0.3, "rho": 0.4}) is None
    for figures in ({"spread": 0.0, "rho": 0.4}, {"spread": 0.3, "rho": 0.01}):
        assert "variance.learning_rate" in (dead(figures) or "")


def test_a_complaint_counts_when_it_is_repeated_after_the_first_steps() -> None:
    watch = Patience()
    heard = [watch.judge(step, said) for step, said in [(10, "a"), (20, "a"), (300, "a"), (310, None), (320, "a")]]
    assert heard == [None] * 5
    assert watch.judge(330, "a") == "a"


def test_a_dead_variance_head_stops_the_run_and_its_encoder_can_be_had(
    fashion_folder: Path, tmp_path: Path, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SETTLED", 0)
    recipe = override(small_recipe, ["variance.learning_rate=1e-12"])
    out = tmp_path / "run"
    # A fresh encoder's embeddings are close together, which is not what is tested here.
    monkeypatch.setattr(health, "LEAST_STD", 0.0)
    said = set()
    pattern = r"variance head is dead .* last good state is .*good\.pt; .*--init"
    for _ in range(2):  # the same command goes on from the last state, and knows what was bad before it
        with pytest.raises(VsslError, match=pattern) as stop:
            train(recipe, str(fashion_folder), out, Budget(steps=20), seed=0)
        said.add(str(stop.value))
    assert len(said) == 1
    run = Run(out)
    assert not run.finished
    again = tmp_path / "again"
    from vssl_training.loop.job import StartingWeights, TrainingOptions

    train(
        small_recipe,
        str(fashion_folder),
        again,
        Budget(steps=4),
        seed=0,
        options=TrainingOptions(start=StartingWeights(run.good_path)),
    )
    assert Run(again).finished


def test_probe_is_ridge_regression_of_the_labels() -> None:
    generator = np.random.default_rng(0)
    bank, queries = generator.normal(size=(60, 5)).astype(np.float32), generator.normal(size=(40, 5)).astype(np.float32)
    labels, asked = generator.integers(0, 3, 60), generator.integers(0, 3, 40)
    centred = bank - bank.mean(0)
    strength = RIDGE * float((centred**2).sum()) / 5 + 1e-9
    reference = Ridge(alpha=strength).fit(bank, np.eye(3)[labels]).predict(queries).argmax(1)
    assert probe_accuracy(queries, asked, bank, labels) == pytest.approx((reference == asked).mean())

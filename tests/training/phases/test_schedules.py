"""Schedules, and randomness that is a function of (seed, phase, step)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.core.samples import fashion
from vssl_training.data.order import batch_indices, generator
from vssl_training.loop import budget as planning
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.schedules import teacher_momentum, warm_up_cosine
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import Recipe


@given(steps=st.integers(1, 5_000), warm_up=st.floats(0, 1))
def test_learning_rate_stays_within_bounds_and_ends_near_zero(steps: int, warm_up: float) -> None:
    factors = [warm_up_cosine(step, steps, warm_up) for step in range(0, steps, max(1, steps // 50))]
    assert all(0 <= factor <= 1 for factor in factors)
    falling = steps - warm_up * steps
    if falling >= 2:  # ½(1 + cos(π − π/n)) = sin²(π/2n)
        assert warm_up_cosine(steps - 1, steps, warm_up) <= (math.pi / 2 / falling) ** 2


def test_learning_rate_rises_then_falls() -> None:
    factors = [warm_up_cosine(step, 1_000, 0.1) for step in range(1_000)]
    assert factors[:101] == sorted(factors[:101])
    assert factors[100:] == sorted(factors[100:], reverse=True)
    assert max(factors) == 1


def test_teacher_momentum_goes_from_base_to_one() -> None:
    values = [teacher_momentum(step, 100, 0.9) for step in range(101)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.9, 1.0)


@given(seed=st.integers(0, 2**20 - 1), count=st.integers(2, 300), data=st.data())
def test_an_epoch_visits_every_image_at_most_once(seed: int, count: int, data: st.DataObject) -> None:
    batch = data.draw(st.integers(2, count))
    per_epoch = count // batch
    epoch = [batch_indices(seed, 0, step, count, batch) for step in range(per_epoch)]
    seen = torch.cat(epoch)
    assert len(seen) == per_epoch * batch
    assert len(set(seen.tolist())) == len(seen)
    assert seen.max() < count


def test_randomness_depends_on_seed_phase_and_step_alone() -> None:
    draws = {
        coordinates: torch.rand(4, generator=generator(*coordinates)).tolist()
        for coordinates in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    }
    assert len({tuple(draw) for draw in draws.values()}) == 4
    assert torch.rand(4, generator=generator(1, 0, 0)).tolist() == draws[1, 0, 0]


def test_early_views_have_another_size_and_their_share_of_the_plan(
    small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(small_recipe, ["views.early={size: 12, share: 0.3}", "views.size=20", "optimiser.batch=4"])
    assert recipe.sizes == {12, 20, 32}
    phase = EncoderTraining(recipe, torch.from_numpy(fashion(8)), 0, 10)
    assert [phase.views(step)[0].shape[-1] for step in range(10)] == [12] * 3 + [20] * 7
    monkeypatch.setattr(planning, "seconds_a_step", lambda phase, first=0: 1.0 if first < 3 else 5.0)
    assert planning.mean_seconds(phase) == pytest.approx(0.3 * 1 + 0.7 * 5)
    plain = EncoderTraining(override(recipe, ["views.early=null"]), torch.from_numpy(fashion(8)), 0, 10)
    assert planning.mean_seconds(plain) == 1

"""A student that is its own prior: what a teacher would answer that has just become the student."""

from unittest.mock import patch

import pytest
import torch

from tests.core.samples import fashion
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import Recipe

PIXELS = torch.from_numpy(fashion(40, 32))
STEPS = 4


def phase_with(recipe: Recipe, momentum: float) -> EncoderTraining:
    return EncoderTraining(override(recipe, [f"teacher.momentum={momentum}"]), PIXELS, 0, STEPS)


@pytest.mark.parametrize("predictor", ["null", "{hidden: 32}"])
def test_it_takes_the_steps_of_a_teacher_without_memory(small_recipe: Recipe, predictor: str) -> None:
    recipe = override(small_recipe, [f"network.predictor={predictor}"])
    alone, copied = phase_with(recipe, 0), phase_with(recipe, 0.5)
    assert alone.teacher is None
    with patch("vssl_training.phases.encoder.teacher_momentum", lambda *_: 0.0):
        for step in range(STEPS):
            ours, theirs = alone.step(step), copied.step(step)
            assert ours.keys() == theirs.keys()
            for name, value in ours.items():
                torch.testing.assert_close(value, theirs[name])
    ours, theirs = alone.student.state_dict(), copied.student.state_dict()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], msg=name)


def test_it_goes_on_from_its_state(small_recipe: Recipe) -> None:
    whole, first = phase_with(small_recipe, 0), phase_with(small_recipe, 0)
    for step in range(2):
        whole.step(step)
        first.step(step)
    state = first.state()
    assert "teacher" not in state
    second = phase_with(small_recipe, 0)
    second.load_state(state)
    for step in (2, 3):
        assert second.step(step)["loss"] == whole.step(step)["loss"]

"""The changes on trial against their definitions, and a step of each."""

import math

import pytest
import torch
from torch import Tensor, nn

from benchmarks.encoder_variants import BEFORE, VARIANTS, clean_statistics, cross_correlation, on_trial, student
from tests.core.samples import fashion
from vssl_training.objective.batch import swapped
from vssl_training.objective.terms import Gaussian
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.views.pixels import to_float

TINY = ["network.width=8", "optimiser.batch=16", "network.dimension=16", "network.projector.hidden=32"]
PIXELS = torch.from_numpy(fashion(40, 32))


def gaussian(seed: int) -> Gaussian:
    return Gaussian(*torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize("name", list(VARIANTS))
def test_each_takes_steps_that_are_not_the_recipes_own(name: str) -> None:
    """Or makes another encoder of the same steps."""
    variant = VARIANTS[name]
    before = BEFORE if name.startswith("as before, ") else []
    plain = load_recipe("quick")
    recipe = override(plain, [*TINY, *variant.settings])
    with on_trial(variant):
        phase = EncoderTraining(recipe, PIXELS, 0, 4)
        if variant.change is not None:
            variant.change(phase)
        losses = [phase.step(step)["loss"].item() for step in range(4)]
    own = EncoderTraining(override(plain, [*TINY, *before]), PIXELS, 0, 4)
    expected = [own.step(step)["loss"].item() for step in range(4)]
    assert all(map(math.isfinite, losses))
    assert (losses == expected) == (variant.judged is not student)
    changed, unchanged = variant.judged(phase).eval(), own.student.eval()
    if losses == expected:
        with torch.no_grad():
            assert not torch.equal(changed(to_float(PIXELS)).mean, unchanged(to_float(PIXELS)).mean)


def test_cross_correlation_counts_different_dimensions_alone() -> None:
    student, teacher = gaussian(2), gaussian(3)
    found = cross_correlation(student.mean, [student], teacher)
    whole = numpys(student.mean, swapped(teacher).mean)
    wanted = (whole.square().sum() - whole.diagonal().square().sum()) / 5
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)  # ours keeps 1e-4 of a variance away from 0


def numpys(one: Tensor, other: Tensor) -> Tensor:
    points = [nn.functional.normalize(each, dim=-1) for each in (one, other)]
    return torch.corrcoef(torch.cat(points, 1).T)[:5, 5:]


def test_statistics_are_those_of_all_clean_images() -> None:
    phase = EncoderTraining(override(load_recipe("quick"), TINY), PIXELS[:32], 0, 4)
    phase.step(0)
    norm = next(module for module in phase.student.modules() if isinstance(module, nn.BatchNorm2d))
    inputs: list[Tensor] = []
    norm.register_forward_hook(lambda module, given, output: inputs.append(given[0]))
    clean_statistics(phase)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, torch.cat(inputs).mean((0, 2, 3)), rtol=1e-4, atol=1e-5)

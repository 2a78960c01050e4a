"""The likelihoods and heads of the benchmarks against their definitions."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, StudentT

from benchmarks import variants
from benchmarks.variants import instance_difficulty, mc_infonce, ordering_loss, residual_raw
from tests.core.samples import fashion
from vssl_training.encoder.embedder import build_encoder
from vssl_training.objective import batch
from vssl_training.objective.terms import Gaussian, loss, nll_d2, on_sphere
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import ObjectiveSettings

N, D = 7, 6
CONSTANT = 0.5 * math.log(2 * math.pi)


def draw(seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*torch.randn(2, N, D, generator=generator, dtype=torch.float64))


def normal(g: Gaussian) -> Normal:
    return Normal(g.mean, (0.5 * g.log_variance).exp())


def points(count: int, seed: int) -> Tensor:
    return on_sphere(torch.randn(count, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def test_d1_and_d3_are_the_expectations_that_they_say() -> None:
    """Against samples: D1 draws from the student and asks the teacher's density, D3 the other way round."""
    student, teacher = draw(0), draw(1)
    q, p = normal(student), normal(teacher)
    residual = residual_raw(student.mean, teacher.mean)
    torch.manual_seed(0)
    for ours, drawn, density in ((variants.d1, q, p), (variants.d3, p, q)):
        values = -density.log_prob(drawn.sample((200_000,)))
        error = values.std(0) / math.sqrt(len(values))
        expected = ours(residual, student.log_variance, teacher.log_variance) + CONSTANT
        assert ((values.mean(0) - expected).abs() < 5 * error).all()


def test_student_t_is_torchs_density_and_gaussian_in_the_limit() -> None:
    student, target = draw(0), draw(1).mean
    residual, none = residual_raw(student.mean, target), torch.zeros(())
    scale = (0.5 * student.log_variance).exp()
    for freedom in (1.0, 4.0, 30.0):
        density = StudentT(torch.tensor(freedom).double(), student.mean, scale).log_prob(target)
        at_centre = StudentT(torch.tensor(freedom).double()).log_prob(torch.zeros(()).double())
        found = variants.student_t(freedom)(residual, student.log_variance, none)
        torch.testing.assert_close(found, at_centre - density)
    gaussian = nll_d2(residual, student.log_variance)
    found = variants.student_t(1e8)(residual, student.log_variance, none)
    torch.testing.assert_close(found, gaussian, atol=1e-5, rtol=0)


def test_with_the_recipes_own_parts_it_is_form_b() -> None:
    student, teacher, settings = draw(0), draw(1), ObjectiveSettings(form="B", beta=0.7)
    torch.testing.assert_close(variants.gaussian_loss()(student, teacher, settings), loss(student, teacher, settings))


@pytest.mark.parametrize("name", list(variants.OBJECTIVES))
def test_an_objective_stands_for_the_recipes_own_and_no_longer(name: str) -> None:
    own = vars(batch)["loss"]
    with variants.objective(name):
        assert vars(batch)["loss"] is variants.OBJECTIVES[name]
        start, teacher, settings = draw(0), draw(1), ObjectiveSettings(form="B", beta=0.7)
        inputs = (start.mean.requires_grad_(), start.log_variance.requires_grad_())
        assert torch.autograd.gradcheck(lambda m, v: vars(batch)["loss"](Gaussian(m, v), teacher, settings), inputs)
    assert vars(batch)["loss"] is own


@pytest.fixture
def clean() -> Tensor:
    return points(5, 0)


@pytest.fixture
def bank(clean: Tensor) -> Tensor:
    """Two of the batch's own images are in it."""
    return torch.cat([points(20, 1), clean[:2]])


@pytest.fixture
def mean(clean: Tensor) -> Tensor:
    return on_sphere(clean + 0.5 * points(5, 2))


def test_difficulty_is_the_cross_entropy_of_telling_images_apart(clean: Tensor, bank: Tensor, mean: Tensor) -> None:
    for row in range(5):
        others = bank[torch.arange(22) != 20 + row]
        weights = torch.exp(torch.cat([clean[row : row + 1], others]) @ mean[row] / D / 0.3)
        wanted = -torch.log(weights[0] / weights.sum())
        found = instance_difficulty(mean, clean, bank, 0.3)[row]
        torch.testing.assert_close(found, wanted)


def test_pairs_in_order_cost_nothing_and_others_are_pushed_apart() -> None:
    difficulty = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert ordering_loss(difficulty, difficulty) == 0
    wrong = torch.tensor([3.0, 2.0, 1.0, 0.0], requires_grad=True)
    ordering_loss(wrong, difficulty).backward()
    assert wrong.grad is not None
    assert wrong.grad[0] > 0 > wrong.grad[3]


def test_without_variance_mc_infonce_is_infonce(clean: Tensor, bank: Tensor, mean: Tensor) -> None:
    found = mc_infonce(mean, torch.full_like(mean, -60), clean, bank, 0.3, torch.Generator())
    torch.testing.assert_close(found, instance_difficulty(mean, clean, bank, 0.3), atol=1e-6, rtol=0)


def test_mc_infonce_wants_certainty_where_the_mean_is_right_and_doubt_where_it_is_wrong(bank: Tensor) -> None:
    clean = points(200, 3)
    for mean, sign in ((clean, 1), (-clean, -1)):
        level = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        terms = mc_infonce(mean, level.expand(200, D), clean, bank, 0.3, torch.Generator().manual_seed(0), 16)
        terms.mean().backward()
        assert level.grad is not None
        assert level.grad.item() * sign > 0


@pytest.mark.parametrize("kind", [variants.OrderedHead, variants.MonteCarloHead])
def test_the_heads_learn_with_a_bank(kind: type[VarianceTraining]) -> None:
    small = ["network.width=8", "network.embedding.whiten.dimension=16", "variance.batch=16", "variance.bank=24"]
    recipe = override(load_recipe("quick"), small)
    phase = kind(recipe, build_encoder(recipe), torch.from_numpy(fashion(40, 32)), 0, 6).prepare()
    before = [value.clone() for value in phase.head.parameters()]
    assert phase.bank.shape == (24, 16)
    assert all(torch.isfinite(phase.step(step)["loss"]) for step in range(3))
    assert any((a != b).any() for a, b in zip(before, phase.head.parameters(), strict=True))

"""The objective against its limits, closed forms, Monte Carlo and finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from vssl_training.objective.terms import (
    Gaussian,
    beta_nll,
    coding_rate,
    contrastive,
    cosine,
    decorrelation,
    kl,
    loss,
    nll_d2,
    on_sphere,
    soft_clamp,
)
from vssl_training.recipe.sections import Form, ObjectiveSettings

N, D = 7, 5
ALL_FORMS: list[Form] = ["A", "B", "balanced"]


def draw(seed: int, scale: float = 1.0) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, N, D, generator=generator, dtype=torch.float64)
    return Gaussian(mean * scale, log_variance)


def of(form: Form, student: Gaussian, teacher: Gaussian, beta: float) -> Tensor:
    return loss(student, teacher, ObjectiveSettings(form=form, beta=beta))


def certain(seed: int) -> Gaussian:
    mean = on_sphere(draw(seed).mean)
    return Gaussian(mean, torch.zeros_like(mean))


@pytest.mark.parametrize("form", ALL_FORMS)
@given(seed=st.integers(0, 2**31))
def test_every_form_is_byol_when_the_variances_are_one(form: Form, seed: int) -> None:
    student, teacher = certain(seed), certain(seed + 1)
    byol = 2 - 2 * cosine(student.mean, teacher.mean)
    torch.testing.assert_close(of(form, student, teacher, 1.0), byol)


@pytest.mark.parametrize(("form", "share"), [("A", 1.0), ("B", 1.0), ("balanced", 0.5)])
def test_gradient_on_the_mean_is_byols_but_half_of_it_when_balanced(form: Form, share: float) -> None:
    mean = draw(0).mean.requires_grad_()
    teacher = certain(1)
    loss = of(form, Gaussian(mean, torch.zeros_like(mean)), teacher, 1.0).sum()
    (gradient,) = torch.autograd.grad(loss, mean)
    (byol,) = torch.autograd.grad((2 - 2 * cosine(mean, teacher.mean)).sum(), mean)
    torch.testing.assert_close(gradient, share * byol)


@pytest.mark.parametrize("form", ["A", "B"])
def test_gradients_agree_with_finite_differences(form: Form) -> None:
    teacher = draw(1)

    def loss(mean: Tensor, log_variance: Tensor) -> Tensor:
        return of(form, Gaussian(mean, log_variance), teacher, 0.7)

    start = draw(0)
    assert torch.autograd.gradcheck(loss, (start.mean.requires_grad_(), start.log_variance.requires_grad_()))


def test_balanced_gradients_agree_with_finite_differences_of_its_parts() -> None:
    """Its detached factors are constants to autograd, so the difference quotient holds them fixed too."""
    start, teacher = draw(0), draw(1)
    distance = (1 - cosine(start.mean, teacher.mean)).detach()
    precision = (-start.log_variance.mean(-1)).exp().detach()
    weight = precision / precision.mean()

    def held_fixed(mean: Tensor, log_variance: Tensor) -> Tensor:
        moving = 1 - cosine(mean, teacher.mean)
        s = log_variance.mean(-1)
        ratio = log_variance - teacher.log_variance
        nll = 0.5 * weight * moving + 0.5 * (2 * distance * (-s).exp() + s)
        return nll + 0.7 * (0.5 * moving + 0.5 * (ratio.exp() - ratio - 1).mean(-1))

    inputs = (start.mean.requires_grad_(), start.log_variance.requires_grad_())
    assert torch.autograd.gradcheck(held_fixed, inputs)
    ours = torch.autograd.grad(of("balanced", Gaussian(*inputs), teacher, 0.7).sum(), inputs)
    fixed = torch.autograd.grad(held_fixed(*inputs).sum(), inputs)
    torch.testing.assert_close(ours, fixed)
    torch.testing.assert_close(of("balanced", Gaussian(*inputs), teacher, 0.7), held_fixed(*inputs))


def test_decorrelation_and_beta_nll_gradients_agree_with_finite_differences() -> None:
    values = draw(0)
    assert torch.autograd.gradcheck(decorrelation, (values.mean.requires_grad_(),))
    residual = draw(1).mean.square()
    assert torch.autograd.gradcheck(lambda v: beta_nll(v, residual, 0.0), (values.log_variance.requires_grad_(),))
    assert torch.autograd.gradcheck(lambda v: soft_clamp(v, -6, 3), (values.log_variance,))


def normal(g: Gaussian) -> Normal:
    return Normal(g.mean, (0.5 * g.log_variance).exp())


def test_kl_agrees_with_torch_distributions() -> None:
    student, teacher = draw(0), draw(1)
    expected = kl_divergence(Independent(normal(student), 1), Independent(normal(teacher), 1)) / D
    ours = kl((student.mean - teacher.mean).square(), student.log_variance, teacher.log_variance)
    torch.testing.assert_close(ours, expected)


def test_kl_agrees_with_monte_carlo() -> None:
    student, teacher = draw(0), draw(1)
    q, p = normal(student), normal(teacher)
    torch.manual_seed(0)
    samples = q.sample((200_000,))
    ratios = (q.log_prob(samples) - p.log_prob(samples)).mean(-1)
    error = ratios.std(0) / math.sqrt(len(samples))
    ours = kl((student.mean - teacher.mean).square(), student.log_variance, teacher.log_variance)
    assert ((ratios.mean(0) - ours).abs() < 5 * error).all()


CONSTANT = 0.5 * math.log(2 * math.pi)


def test_d2_is_the_gaussian_density_and_its_fixed_point_the_squared_residual() -> None:
    student, target = draw(0), draw(1).mean
    residual = (student.mean - target).square()
    ours = nll_d2(residual, student.log_variance)
    torch.testing.assert_close(ours + CONSTANT, -normal(student).log_prob(target))
    best = residual.log().requires_grad_()
    (gradient,) = torch.autograd.grad(nll_d2(residual, best).sum(), best)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_switches_reach_the_loss() -> None:
    student, teacher = draw(0), draw(1)
    plain = ObjectiveSettings(form="B", beta=0)
    residual = (on_sphere(student.mean) - on_sphere(teacher.mean)).square()
    nll = nll_d2(residual, student.log_variance)
    torch.testing.assert_close(loss(student, teacher, plain), nll.mean(-1))
    weighted = loss(student, teacher, plain.model_copy(update={"beta_nll": 0.5}))
    torch.testing.assert_close(weighted, (nll * student.log_variance.exp().sqrt()).mean(-1))


def test_contrastive_is_the_cross_entropy_of_finding_oneself() -> None:
    student, teacher = draw(0).mean, draw(1).mean
    similarity = torch.stack([cosine(row.expand(N, -1), teacher) for row in student]) / 0.2
    expected = similarity.logsumexp(1) - similarity.diagonal()
    torch.testing.assert_close(contrastive(student, teacher, 0.2), expected)
    assert torch.autograd.gradcheck(lambda m: contrastive(m, teacher, 0.2), (student.requires_grad_(),))


@pytest.mark.parametrize("form", ["A", "B", "balanced"])
def test_cosine_forms_do_not_know_the_length_of_the_means(form: Form) -> None:
    student, teacher = draw(0), draw(1)
    longer = Gaussian(student.mean * 3, student.log_variance)
    torch.testing.assert_close(of(form, longer, teacher, 0.5), of(form, student, teacher, 0.5))


def test_teacher_closer_to_student_is_cheaper_under_any_variance() -> None:
    student = draw(0)
    near = Gaussian(student.mean + 0.1, student.log_variance)
    far = Gaussian(student.mean + draw(2).mean, student.log_variance)
    for form in ALL_FORMS:
        assert (of(form, student, near, 1.0) < of(form, student, far, 1.0)).all(), form


def test_decorrelation_is_zero_for_independent_directions_and_large_for_a_collapse() -> None:
    torch.manual_seed(0)
    healthy = torch.randn(20_000, D)
    assert decorrelation(healthy) < 0.01
    line = torch.randn(200, 1) * torch.ones(1, D) + 0.01 * torch.randn(200, D)
    assert decorrelation(line) > 0.8 * (D - 1)


def test_the_coding_rate_is_that_of_the_singular_values() -> None:
    """det(I + a Σ) is the product of 1 + a s² / N."""
    mean = draw(0).mean
    singular = torch.linalg.svdvals(F.normalize(mean, dim=-1))
    torch.testing.assert_close(coding_rate(mean), 0.5 * torch.log1p(2 * D * singular**2 / N).sum() / D)
    assert torch.autograd.gradcheck(coding_rate, (mean.requires_grad_(),))


def test_the_coding_rate_is_least_for_one_direction_and_most_for_all_alike() -> None:
    torch.manual_seed(0)
    line = coding_rate(torch.ones(20_000, D))
    assert line == pytest.approx(0.5 * math.log1p(2 * D) / D, abs=1e-3)
    assert line < coding_rate(torch.randn(20_000, D)) < 0.5 * math.log1p(2)


def test_beta_nll_weighs_the_gradient_by_a_power_of_the_variance() -> None:
    log_variance = draw(0).log_variance.requires_grad_()
    residual = draw(1).mean.square()
    (plain,) = torch.autograd.grad(beta_nll(log_variance, residual, 0.0).sum(), log_variance)
    (half,) = torch.autograd.grad(beta_nll(log_variance, residual, 0.5).sum(), log_variance)
    torch.testing.assert_close(half, plain * log_variance.detach().exp().sqrt())


@given(value=st.floats(-1e4, 1e4))
def test_soft_clamp_stays_inside_and_starts_as_the_identity(value: float) -> None:
    tensor = torch.tensor(value, dtype=torch.float64)
    clamped = soft_clamp(tensor, -6, 3)
    assert -6 <= clamped <= 3
    assert math.isclose(soft_clamp(tensor / 1e8, -6, 3), value / 1e8, abs_tol=1e-9)


def test_on_sphere_has_length_root_d() -> None:
    lengths = on_sphere(draw(0).mean).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, math.sqrt(D)))
    torch.testing.assert_close(F.normalize(on_sphere(draw(0).mean)), F.normalize(draw(0).mean))

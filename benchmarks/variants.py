"""Likelihoods and variance heads that were tried and show no gain: rows of the benchmarks, not switches of a recipe.

Notation and shapes are those of `vssl_training.objective.terms` and `vssl_training.objective.variance`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from vssl_training.objective.terms import Gaussian, kl, nll_d2, on_sphere, residual_diagonal
from vssl_training.objective.variance import SAME, cosines
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.sections import ObjectiveSettings

Residual = Callable[[Tensor, Tensor], Tensor]
Likelihood = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Squared residual [N, D], the student's ℓ and the teacher's ℓ → [N, D]."""
Loss = Callable[[Gaussian, Gaussian, ObjectiveSettings], Tensor]

TEMPERATURE = 0.1
"""Of the similarities in `instance_difficulty` and `mc_infonce`."""


def residual_raw(mean_s: Tensor, mean_t: Tensor) -> Tensor:
    """(μ_s − μ_t)² [N, D]: the means as they are, not on the sphere."""
    return (mean_s - mean_t).square()


def d1(residual: Tensor, log_variance_s: Tensor, log_variance_t: Tensor) -> Tensor:
    """D1 = E_{z~q_s}[−log p_t(z)] without its constant [N, D]: priced by the teacher's variance, σ collapses."""
    return 0.5 * (log_variance_t + (residual + log_variance_s.exp()) * (-log_variance_t).exp())


def d2(residual: Tensor, log_variance_s: Tensor, log_variance_t: Tensor) -> Tensor:
    """D2 [N, D], the recipes' own; it does not look at the teacher's variance."""
    return nll_d2(residual, log_variance_s)


def d3(residual: Tensor, log_variance_s: Tensor, log_variance_t: Tensor) -> Tensor:
    """D3 = E_{z~p_t}[−log N(z; μ_s, σ_s²)] without its constant [N, D]: the teacher's variance is added, σ inflates."""
    return 0.5 * (log_variance_s + (residual + log_variance_t.exp()) * (-log_variance_s).exp())


def student_t(freedom: float) -> Likelihood:
    """−log of Student's t with so many degrees and scale σ_s² without its constant; Gaussian as they grow."""

    def likelihood(residual: Tensor, log_variance_s: Tensor, log_variance_t: Tensor) -> Tensor:
        scaled = residual * (-log_variance_s).exp() / freedom
        return 0.5 * (log_variance_s + (freedom + 1) * torch.log1p(scaled))

    return likelihood


def gaussian_loss(likelihood: Likelihood = d2, residual: Residual = residual_diagonal) -> Loss:
    """One direction of the objective with another likelihood or residual, to stand for `objective.loss`."""

    def loss(student: Gaussian, teacher: Gaussian, settings: ObjectiveSettings) -> Tensor:
        squares = residual(student.mean, teacher.mean)
        nll = likelihood(squares, student.log_variance, teacher.log_variance).mean(-1)
        return nll + settings.beta * kl(squares, student.log_variance, teacher.log_variance)

    return loss


OBJECTIVES: Mapping[str, Loss] = {
    "raw": gaussian_loss(residual=residual_raw),
    "B, D1": gaussian_loss(d1),
    "B, D3": gaussian_loss(d3),
    "B, Student-t, ν = 4": gaussian_loss(student_t(4)),
}
"""Rows of the ablation that no recipe can name."""


@contextmanager
def objective(name: str) -> Iterator[None]:
    """Train the encoder by the variant of that name, or by the recipe's own objective where there is none."""
    if name not in OBJECTIVES:
        yield
        return
    with patch("vssl_training.objective.batch.loss", OBJECTIVES[name]):
        yield


class OrderedHead(VarianceTraining):
    """The recipe's head with a hinge beside it: what is harder to tell from others is less certain."""

    needs_bank = True

    def loss(self, log_variance: Tensor, mean: Tensor, target: Tensor, degraded: Tensor, draws: Generator) -> Tensor:
        """See `VarianceTraining.loss`."""
        difficulty = instance_difficulty(mean, target, self.bank, TEMPERATURE)
        ordering = ordering_loss(log_variance[: len(mean)].mean(1), difficulty)
        return super().loss(log_variance, mean, target, degraded, draws) + ordering


class UnmaskedHead(VarianceTraining):
    """The recipe's head, its contrast with views that nothing struck too: clean pictures are pulled together."""

    def loss(self, log_variance: Tensor, mean: Tensor, target: Tensor, degraded: Tensor, draws: Generator) -> Tensor:
        """See `VarianceTraining.loss`."""
        return super().loss(log_variance, mean, target, torch.ones_like(degraded), draws)


class MonteCarloHead(VarianceTraining):
    """MC-InfoNCE in the place of the likelihood."""

    needs_bank = True

    def loss(self, log_variance: Tensor, mean: Tensor, target: Tensor, degraded: Tensor, draws: Generator) -> Tensor:
        """See `VarianceTraining.loss`."""
        views = log_variance[: len(mean)]
        return mc_infonce(mean, views, target, self.bank, TEMPERATURE, draws.clone_state()).mean()


def instance_difficulty(mean: Tensor, clean: Tensor, bank: Tensor, temperature: float) -> Tensor:
    """−log softmax of the view's similarity to its own clean image among all of the bank [N]: hard to tell from others.

    Wu et al. 2018 (arXiv 1805.01978), eq. 4.
    """
    own = (mean * clean).sum(1) / mean.shape[1]
    others = cosines(mean, bank).masked_fill(cosines(clean, bank) > SAME, -math.inf)
    logits = torch.cat([own[:, None], others], 1) / temperature
    return torch.logsumexp(logits, 1) - logits[:, 0]


def ordering_loss(uncertainty: Tensor, difficulty: Tensor, margin: float = 0.1) -> Tensor:
    """Hinge on the order of pairs, a scalar: the harder image of a pair is to be the more uncertain by `margin`.

    Yoo & Kweon 2019 (arXiv 1905.03677), eq. 2; pairs are neighbours in the batch.
    """
    order = (difficulty - difficulty.roll(1)).sign().detach()
    return F.relu(margin - order * (uncertainty - uncertainty.roll(1))).mean()


def mc_infonce(
    mean: Tensor,
    log_variance: Tensor,
    clean: Tensor,
    bank: Tensor,
    temperature: float,
    generator: Generator,
    samples: int = 4,
) -> Tensor:
    """InfoNCE of samples of N(mean, σ²) with the clean image against the bank, averaged over samples [N].

    After MC-InfoNCE, Kirchhof et al. 2023 (arXiv 2302.02865), eq. 5, with Gaussians for von Mises–Fisher densities,
    and samples on the side of the degraded view alone: the other side's embedding is fixed.
    """
    shape = (samples, *mean.shape)
    noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
    drawn = on_sphere(mean + noise * (0.5 * log_variance).exp())
    own = (drawn * clean).sum(-1, keepdim=True) / mean.shape[1]
    same = cosines(clean, bank) > SAME
    others = (drawn @ bank.T / mean.shape[1]).masked_fill(same, -math.inf)
    logits = torch.cat([own, others], -1) / temperature
    log_probability = logits[..., 0] - torch.logsumexp(logits, -1)
    return math.log(samples) - torch.logsumexp(log_probability, 0)

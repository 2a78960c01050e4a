"""The objective of Variational Self-Supervised Learning: one pure function a term.

The frame is the paper's (Yavuz & Yanıkoğlu, arXiv 2504.04318): a student posterior q_s(z|x) = N(μ_s, diag σ_s²), an EMA
teacher that is its prior p_t(z|x), a cross-view denoising term in the place of a decoder, and KL(q_s ‖ p_t). Which
denoising likelihood (D2) and the cosine forms A, B and balanced are our own choices; docs/method.md derives them.

Notation: ℓ = log σ² [N, D]; μ [N, D]; c = cos(q(μ_s), μ_t) [N] with the predictor q on the student's mean only; means
over D are means, never sums. Each function takes one direction (student view, teacher view) and returns [N], a value
per image; the teacher's arguments carry no gradient. The two directions are added by the caller.

With ℓ ≡ 0 every form below equals 2 − 2c, the BYOL loss of one direction (for `raw`, with means of length √D).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Literal["raw", "A", "B", "balanced"]


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian for each of N images: `mean` [N, D] and `log_variance` [N, D]."""

    mean: Tensor
    log_variance: Tensor


def on_sphere(mean: Tensor) -> Tensor:
    """Scale each row of `mean` [N, D] to length √D."""
    return F.normalize(mean, dim=-1) * math.sqrt(mean.shape[-1])


def cosine(mean_s: Tensor, mean_t: Tensor) -> Tensor:
    """c [N], the cosine between the rows of two [N, D]."""
    return F.cosine_similarity(mean_s, mean_t, dim=-1)


def kl_variance(log_variance_s: Tensor, log_variance_t: Tensor) -> Tensor:
    """The part of the KL [N] that knows the variances alone: ½ mean_d[ℓ_t − ℓ_s + e^{ℓ_s−ℓ_t} − 1]."""
    ratio = log_variance_s - log_variance_t
    return 0.5 * (ratio.exp() - ratio - 1).mean(-1)


def kl_gaussian(student: Gaussian, teacher: Gaussian) -> Tensor:
    """KL(q_s ‖ p_t) / D in closed form [N]."""
    residual = (student.mean - teacher.mean).square()
    mean_part = 0.5 * (residual * (-teacher.log_variance).exp()).mean(-1)
    return kl_variance(student.log_variance, teacher.log_variance) + mean_part


def nll_gaussian(student: Gaussian, target: Tensor) -> Tensor:
    """D2: −log N(target; μ_s, σ_s²) / D without its constant [N]. Its fixed point is σ_s² = (target − μ_s)²."""
    residual = (target - student.mean).square()
    return 0.5 * (student.log_variance + residual * (-student.log_variance).exp()).mean(-1)


def loss_raw(student: Gaussian, teacher: Gaussian, beta: float) -> Tensor:
    """The Gaussian terms on the means as they are [N]."""
    return nll_gaussian(student, teacher.mean) + beta * kl_gaussian(student, teacher)


def loss_isotropic(student: Gaussian, teacher: Gaussian, beta: float) -> Tensor:
    """Form A [N]: means on the sphere of radius √D, where mean_d (m_s − m_t)² = 2(1 − c), shared by all dimensions."""
    distance = 1 - cosine(student.mean, teacher.mean)
    nll = 0.5 * student.log_variance.mean(-1) + distance * (-student.log_variance).exp().mean(-1)
    kl = kl_variance(student.log_variance, teacher.log_variance) + distance * (-teacher.log_variance).exp().mean(-1)
    return nll + beta * kl


def loss_diagonal(student: Gaussian, teacher: Gaussian, beta: float) -> Tensor:
    """Form B [N]: the Gaussian terms on the sphere of radius √D, with a variance of its own for each dimension."""
    return loss_raw(
        Gaussian(on_sphere(student.mean), student.log_variance),
        Gaussian(on_sphere(teacher.mean), teacher.log_variance),
        beta,
    )


def loss_balanced(student: Gaussian, teacher: Gaussian, beta: float) -> Tensor:
    """Form A with the precision detached and normalised to batch mean 1 [N], so that it can't drown the other terms.

    With d = 1 − c, r = ℓ_s − ℓ_t, s = mean_d ℓ_s and w = sg(e^{−s}) over its batch mean:
    ½ w d + ½ (2 sg(d) e^{−s} + s) + β (½ d + ½ mean_d(e^r − r − 1)). At ℓ ≡ 0 the value is 2 − 2c, and the gradient
    on the mean is half of BYOL's: the variance learns from the detached distance.
    """
    distance = 1 - cosine(student.mean, teacher.mean)
    log_variance = student.log_variance.mean(-1)
    precision = (-log_variance).exp()
    weight = (precision / precision.mean()).detach()
    nll = 0.5 * weight * distance + 0.5 * (2 * distance.detach() * precision + log_variance)
    kl = 0.5 * distance + kl_variance(student.log_variance, teacher.log_variance)
    return nll + beta * kl


FORMS: dict[Form, Callable[[Gaussian, Gaussian, float], Tensor]] = {
    "raw": loss_raw,
    "A": loss_isotropic,
    "B": loss_diagonal,
    "balanced": loss_balanced,
}


def decorrelation(mean: Tensor) -> Tensor:
    """A small push against dimensional collapse on means [N, D] of one view, N ≥ 2; a scalar.

    On the sphere of radius √D: mean_d of the hinge (1 − std_d)₊, plus the mean square of the off-diagonal
    correlations times D − 1, that is the sum over the others for an average dimension. After the variance and
    covariance terms of VICReg (Bardes et al. 2022, arXiv 2105.04906), on correlations, so that scale plays no part.
    """
    points = on_sphere(mean)
    centred = points - points.mean(0)
    std = (centred.square().mean(0) + 1e-4).sqrt()
    hinge = F.relu(1 - std).mean()
    scaled = centred / std
    correlation = scaled.T @ scaled / len(mean)
    off_diagonal = correlation - torch.diag(torch.diagonal(correlation))
    return hinge + off_diagonal.square().sum() / mean.shape[1]


def beta_nll(log_variance: Tensor, residual: Tensor, beta: float) -> Tensor:
    """Gaussian NLL [N] of squared residuals [N, D], each term weighted by sg(σ²)^β. Seitzer et al. 2022, eq. 5."""
    nll = 0.5 * (log_variance + residual * (-log_variance).exp())
    return (nll * log_variance.detach().exp().pow(beta)).mean(-1)


def soft_clamp(values: Tensor, low: float, high: float) -> Tensor:
    """Bound values smoothly to (low, high), low < 0 < high: 0 stays 0, the slope there is 1 and nowhere 0."""
    return torch.where(values > 0, high * torch.tanh(values / high), low * torch.tanh(values / low))

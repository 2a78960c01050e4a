"""The objective of Variational Self-Supervised Learning: one pure function a term.

The frame is the paper's (Yavuz & Yanıkoğlu, arXiv 2504.04318): a student posterior q_s(z|x) = N(μ_s, diag σ_s²), an EMA
teacher that is its prior p_t(z|x), a cross-view denoising term in the place of a decoder, and KL(q_s ‖ p_t). Which
denoising likelihood (D2) and the cosine forms A, B and balanced are our own choices; docs/method.md derives them.

Notation: ℓ = log σ² [N, D]; μ [N, D]; c = cos(q(μ_s), μ_t) [N] with the predictor q on the student's mean only; means
over D are means, never sums. Each function takes one direction (student view, teacher view) and returns [N], a value
per image, or [N, D] where its docstring says so; the teacher's arguments carry no gradient. The two directions are
added by the caller.

With ℓ ≡ 0 every form below equals 2 − 2c, the BYOL loss of one direction. Other likelihoods that were tried stand in
benchmarks/variants.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vssl_training.recipe.sections import Form, ObjectiveSettings


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


def residual_isotropic(mean_s: Tensor, mean_t: Tensor) -> Tensor:
    """Form A: 2(1 − c) [N, 1], which is mean_d (m_s − m_t)² on the sphere of radius √D, shared by all dimensions."""
    return 2 * (1 - cosine(mean_s, mean_t))[:, None]


def residual_diagonal(mean_s: Tensor, mean_t: Tensor) -> Tensor:
    """Form B: (m_s − m_t)² [N, D] on the sphere of radius √D, so that each dimension has a variance of its own."""
    return (on_sphere(mean_s) - on_sphere(mean_t)).square()


RESIDUALS: dict[Form, Callable[[Tensor, Tensor], Tensor]] = {"A": residual_isotropic, "B": residual_diagonal}


def kl(residual: Tensor, log_variance_s: Tensor, log_variance_t: Tensor) -> Tensor:
    """KL(q_s ‖ p_t) / D in closed form [N], of squared distances of the means [N, D or 1]."""
    mean_part = 0.5 * (residual * (-log_variance_t).exp()).mean(-1)
    return kl_variance(log_variance_s, log_variance_t) + mean_part


def nll_d2(residual: Tensor, log_variance_s: Tensor) -> Tensor:
    """D2 = −log N(μ_t; μ_s, σ_s²) without its constant [N, D]. Its fixed point is σ_s² = the residual."""
    return 0.5 * (log_variance_s + residual * (-log_variance_s).exp())


def loss_gaussian(student: Gaussian, teacher: Gaussian, settings: ObjectiveSettings) -> Tensor:
    """Forms A and B: the denoising likelihood plus β KL [N]."""
    residual = RESIDUALS[settings.form](student.mean, teacher.mean)
    likelihood = beta_nll(student.log_variance, residual, settings.beta_nll)
    return likelihood + settings.beta * kl(residual, student.log_variance, teacher.log_variance)


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


def loss(student: Gaussian, teacher: Gaussian, settings: ObjectiveSettings) -> Tensor:
    """One direction of the objective in the form that the settings name [N]."""
    if settings.form == "balanced":
        return loss_balanced(student, teacher, settings.beta)
    return loss_gaussian(student, teacher, settings)


def contrastive(mean_s: Tensor, mean_t: Tensor, temperature: float) -> Tensor:
    """InfoNCE [N] of predicted means [N, D]: each finds its own among the teacher's [N, D] of the other view.

    Cross-entropy over cosines / temperature (van den Oord et al. 2018, arXiv 1807.03748; between a student and its
    moving average as in MoCo v3, arXiv 2104.02057). It compares images with each other, which the paper does not.
    """
    similarity = F.normalize(mean_s, dim=-1) @ F.normalize(mean_t, dim=-1).T / temperature
    return F.cross_entropy(similarity, torch.arange(len(mean_s), device=mean_s.device), reduction="none")


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


def coding_rate(mean: Tensor) -> Tensor:
    """How much room means [N, D] take on the unit sphere: ½ log det(I + D / ε² · second moments) / D, ε² = ½; a scalar.

    0 where all are nearly one direction, most where no direction is preferred. The rate of Yu et al. 2020 (arXiv
    2006.08558, eq. 1), as SimDINO (Wu et al. 2025, arXiv 2502.10385) keeps an encoder from collapsing by it, per
    dimension here. It sees how images lie together and compares no two of them.
    """
    points = F.normalize(mean, dim=-1)
    dimension = points.shape[1]
    moments = points.T @ points / len(points)
    identity = torch.eye(dimension, dtype=points.dtype, device=points.device)
    root = torch.linalg.cholesky_ex(identity + 2 * dimension * moments).L  # `_ex` waits for no device
    return torch.diagonal(root).log().sum() / dimension


def beta_nll(log_variance: Tensor, residual: Tensor, beta: float) -> Tensor:
    """D2 [N] of squared residuals [N, D or 1], each term times sg(σ²)^β (Seitzer et al. 2022, eq. 5); 0 leaves them."""
    nll = nll_d2(residual, log_variance)
    return (nll if beta == 0 else nll * log_variance.detach().exp().pow(beta)).mean(-1)


def soft_clamp(values: Tensor, low: float, high: float) -> Tensor:
    """Bound values smoothly to (low, high), low < 0 < high: 0 stays 0, the slope there is 1 and nowhere 0."""
    return torch.where(values > 0, high * torch.tanh(values / high), low * torch.tanh(values / low))

"""What the variance head can learn from: one pure function a term. Labels play no part in any of them.

Means and targets are on the sphere of radius √D; `bank` [M, D] are embeddings of clean training images; every function
takes a batch of N spoilt views and gives [N], a value per image, unless its docstring says otherwise.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from vssl_training.objective import beta_nll, on_sphere
from vssl_training.recipe import VarianceSettings

SAME = 1 - 1e-4
"""Images more similar than this are one and the same: the bank may hold an image of the batch."""


def head_loss(
    settings: VarianceSettings, log_variance: Tensor, mean: Tensor, clean: Tensor, bank: Tensor, generator: Generator
) -> Tensor:
    """The loss of a batch, a scalar.

    Args:
        settings: which terms.
        log_variance: ℓ of the spoilt views [N, D], the only argument with a gradient; with `settings.contrast` those
            of the clean images behind them, [2 N, D].
        mean: embeddings of the spoilt views [N, D].
        clean: embeddings of the clean images [N, D].
        bank: of other clean images [M, D]; may be empty where no term needs it.
        generator: of the samples that `mc_infonce` draws.
    """
    log_variance, of_clean = log_variance[: len(mean)], log_variance[len(mean) :]
    if settings.form == "mc_infonce":
        terms = mc_infonce(mean, log_variance, clean, bank, settings.temperature, generator)
    else:
        target = clean if settings.target == "clean" else nearest_in(bank, clean)
        terms = beta_nll(log_variance, (mean - target).square(), settings.beta_nll)
    loss = terms.mean()
    if settings.ordering:
        difficulty = instance_difficulty(mean, clean, bank, settings.temperature)
        loss = loss + settings.ordering * ordering_loss(log_variance.mean(1), difficulty)
    if settings.contrast:
        loss = loss + settings.contrast * contrast_loss(log_variance.mean(1), of_clean.mean(1)).mean()
    return loss


def needs_bank(settings: VarianceSettings) -> bool:
    """Whether a term looks at other images."""
    return settings.form == "mc_infonce" or settings.target == "neighbour" or settings.ordering > 0


def nearest_in(bank: Tensor, clean: Tensor) -> Tensor:
    """The most similar embedding of another image for each of `clean`, [N, D].

    With it as the target, σ² becomes the squared distance to expect to the nearest image of a collection: what an
    unusual picture and a spoilt one have in common.
    """
    similarity = cosines(clean, bank)
    return bank[similarity.masked_fill(similarity > SAME, -math.inf).argmax(1)]


def instance_difficulty(mean: Tensor, clean: Tensor, bank: Tensor, temperature: float) -> Tensor:
    """−log softmax of the view's similarity to its own clean image among all of the bank: hard to tell from others.

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


def contrast_loss(spoilt: Tensor, clean: Tensor, margin: float = 0.5) -> Tensor:
    """Hinge on the uncertainties of spoilt images [N] against those of all clean ones [N]: higher by `margin`.

    Against all of them, not each against its own: a picture's uncertainty is read without its clean version beside it.
    Images that no degradation struck cost the margin and pull nowhere: they are the same among both.
    """
    return F.relu(margin - (spoilt[:, None] - clean)).mean(1)


def mc_infonce(
    mean: Tensor,
    log_variance: Tensor,
    clean: Tensor,
    bank: Tensor,
    temperature: float,
    generator: Generator,
    samples: int = 4,
) -> Tensor:
    """InfoNCE of samples of N(mean, σ²) with the clean image against the bank, its probability averaged over samples.

    After MC-InfoNCE, Kirchhof et al. 2023 (arXiv 2302.02865), eq. 5, with Gaussians for von Mises–Fisher densities,
    and samples on the side of the spoilt view alone: the other side's embedding is fixed.
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


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each of [N, D] with each of [M, D], all of length √D: [N, M]."""
    return a @ b.T / a.shape[1]

"""What the variance head can learn from: one pure function a term. Labels play no part in any of them.

Means and targets are on the sphere of radius √D; `bank` [M, D] are embeddings of clean training images; every function
takes a batch of N degraded views and gives [N], a value per image, unless its docstring says otherwise.
"""

import math

from torch import Tensor
from torch.nn import functional as F

from vssl_training.objective.terms import beta_nll
from vssl_training.recipe.sections import VarianceSettings

SAME = 1 - 1e-4
"""Images more similar than this are one and the same: the bank may hold an image of the batch."""


def head_loss(
    settings: VarianceSettings, log_variance: Tensor, mean: Tensor, clean: Tensor, degraded: Tensor, bank: Tensor
) -> Tensor:
    """The loss of a batch, a scalar.

    Args:
        settings: which terms.
        log_variance: ℓ of the degraded views [N, D], the only argument with a gradient; with `settings.contrast` those
            of the clean images behind them too, [2 N, D].
        mean: embeddings of the degraded views [N, D].
        clean: embeddings of the clean images [N, D].
        degraded: which of the views a degradation struck, bool [N].
        bank: of other clean images [M, D]; may be empty where no term needs it.
    """
    log_variance, of_clean = log_variance[: len(mean)], log_variance[len(mean) :]
    target = clean if settings.target == "clean" else nearest_in(bank, clean)
    loss = beta_nll(log_variance, (mean - target).square(), settings.beta_nll).mean()
    if settings.contrast:
        loss = loss + settings.contrast * contrast_loss(log_variance.mean(1), of_clean.mean(1), degraded)
    return loss


def nearest_in(bank: Tensor, clean: Tensor) -> Tensor:
    """The most similar embedding of another image for each of `clean`, [N, D].

    With it as the target, σ² becomes the squared distance to expect to the nearest image of a collection: what an
    unusual picture and a degraded one have in common.
    """
    similarity = cosines(clean, bank)
    return bank[similarity.masked_fill(similarity > SAME, -math.inf).argmax(1)]


def contrast_loss(views: Tensor, clean: Tensor, degraded: Tensor, margin: float = 0.5) -> Tensor:
    """Hinge on the uncertainties of degraded views [N] against those of all clean images [N], a scalar: higher by
    `margin`.

    Against all of them, not each against its own: a picture's uncertainty is read without its clean version beside it.
    Views that no degradation struck (`degraded` [N] is false) are clean pictures and compared with none: the hinge
    would pull clean pictures together.
    """
    pairs = F.relu(margin - (views[:, None] - clean)).mean(1)
    return (pairs * degraded).sum() / degraded.sum().clamp(min=1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each of [N, D] with each of [M, D], all of length √D: [N, M]."""
    return a @ b.T / a.shape[1]

"""The variance head, trained on a cache: seconds, because the backbone has been asked already."""

import torch
from torch import Tensor

from vssl_training.data.order import generator
from vssl_training.encoder.heads import StatisticsHead
from vssl_training.objective.terms import on_sphere
from vssl_training.phases.optimiser import adamw, optimiser_step
from vssl_training.phases.schedules import warm_up_cosine
from vssl_training.recipe.sections import VarianceSettings

ORDER = 3
"""The coordinate of randomness of the order of rows: no phase has it."""

LEAST_STD = 1e-3
"""Of an input: a channel that says the same of every image is not blown up."""

LEAST_ERROR = 1e-6


def squared_errors(means: Tensor) -> Tensor:
    """Of images with their copies [N, 1 + C, D], each one's squared distance to its clean image, the first, in every
    dimension of the sphere of radius √D [N, 1 + C, D].
    """
    points = on_sphere(means.float())
    return (points - points[:, :1]).square()


def train_head(
    head: StatisticsHead, inputs: Tensor, means: Tensor, settings: VarianceSettings, epochs: int, seed: int
) -> None:
    """Teach a head the squared error that an image's quality costs its embedding, by images and their copies.

    Each dimension of ℓ is a Gaussian's log variance, fitted by its likelihood, weighted by the detached variance to
    the power β (β-NLL, Seitzer et al. 2022, arXiv 2203.09168): what it converges to is the expected squared error.

    Args:
        head: is trained in place, and left in evaluation mode.
        inputs: what it sees [N, 1 + C, P], in any precision.
        means: the embeddings before they have unit length [N, 1 + C, D].
        settings: of learning.
        epochs: how often each row is seen.
        seed: of order and dropout.
    """
    rows, errors = inputs.flatten(0, 1), squared_errors(means).flatten(0, 1)
    start(head, rows, errors)
    batch = min(settings.batch, len(rows))
    per_epoch = len(rows) // batch
    steps = epochs * per_epoch
    optimiser = adamw(head, settings.learning_rate, settings.weight_decay, (0.9, 0.99), fused=False)
    torch.manual_seed(seed)
    head.train()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(rows), generator=generator(seed, ORDER, step // per_epoch))
        chosen = order[step % per_epoch * batch :][:batch]
        log_variance = head.uncorrected(rows[chosen].float())
        nll = 0.5 * (errors[chosen] * (-log_variance).exp() + log_variance)
        loss = (nll * (settings.beta_nll * log_variance.detach()).exp()).mean()
        optimiser_step(optimiser, loss, settings.learning_rate * warm_up_cosine(step, steps, 0.05))
    head.eval()


@torch.no_grad()
def start(head: StatisticsHead, rows: Tensor, errors: Tensor) -> None:
    """Standardise by the rows [M, P]; the answer begins at the mean error [M, D] of each dimension."""
    values = rows.float()
    head.mean.copy_(values.mean(0))
    head.std.copy_(values.std(0).clamp(min=LEAST_STD))
    low, high = head.clamp
    last = head.net[-1]
    assert isinstance(last, torch.nn.Linear)
    start = errors.mean(0).clamp(min=LEAST_ERROR).log().clamp(low + 0.5, high - 0.5)
    last.bias.copy_(start)

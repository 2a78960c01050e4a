"""The loss of a whole batch: two views, their small crops, and the teacher's answer for the views."""

import torch
from torch import Tensor

from vssl_training.objective.terms import Gaussian, coding_rate, contrastive, decorrelation, loss
from vssl_training.recipe.sections import ObjectiveSettings


def objective_terms(
    means: Tensor, students: list[Gaussian], teacher: Gaussian, settings: ObjectiveSettings
) -> dict[str, Tensor]:
    """The scalar `loss` of a whole batch and its terms; those of weight 0 are left out, but for decorrelation.

    Args:
        means: the student's means of the two views [2N, D].
        students: predicted means and log variances of the two views [2N, D], and of the small crops [K · N, D].
        teacher: of the two views [2N, D].
        settings: of the objective.
    """
    directions = [loss(students[0], swapped(teacher), settings)]
    for small in students[1:]:  # each small crop meets the teacher of both views
        for mean, log_variance in zip(teacher.mean.chunk(2), teacher.log_variance.chunk(2), strict=True):
            times = len(small.mean) // len(mean)
            directions.append(loss(small, Gaussian(mean.repeat(times, 1), log_variance.repeat(times, 1)), settings))
    agreement = 2 * torch.cat(directions).mean()  # mean over images of the sum of two directions
    first, second = means.chunk(2)
    apart = 0.5 * (decorrelation(first) + decorrelation(second))
    total = agreement + settings.decorrelation * apart
    terms = {"agreement": agreement, "decorrelation": apart}
    if settings.coding_rate:  # of both views together
        terms["coding_rate"] = coding_rate(means)
        total = total - settings.coding_rate * terms["coding_rate"]
    if settings.contrastive:
        pairs = zip(students[0].mean.chunk(2), swapped(teacher).mean.chunk(2), strict=True)
        terms["contrastive"] = torch.stack([contrastive(*pair, settings.temperature).mean() for pair in pairs]).sum()
        total = total + settings.contrastive * terms["contrastive"]
    return {"loss": total, **terms}


def swapped(posterior: Gaussian) -> Gaussian:
    """The two views' halves of [2N, D] exchanged, so that each student view meets the teacher's other view."""
    half = len(posterior.mean) // 2
    return Gaussian(posterior.mean.roll(half, 0), posterior.log_variance.roll(half, 0))

"""What an uncertainty knows of degraded, out-of-distribution and wrongly matched images, for `vssl evaluate`."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl.images.degradations import CORRUPTIONS, degrade
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import (
    augrc,
    aurc,
    bootstrap,
    clamped,
    e_aurc,
    error_cut,
    fpr_at_acceptance,
    r_auroc,
    rank_correlation,
    within_class_r_auroc,
)
from vssl.search.nearest import nearest
from vssl.sources.in_memory import ImageSet
from vssl.uncertainty.novelty import fit_directions, novelty

Embed = Callable[[Pixels], Embeddings]

SEVERITY, SEED = 3, 0
MAX_DEGRADED = 2_000
"""Images that are degraded and embedded again, for each kind."""


def uncertainty_figures(
    embed: Embed, images: ImageSet, clean: Embeddings, clamp: tuple[float, float] | None = None
) -> dict[str, float]:
    """Every figure that applies, and where it is of images drawn from more, the ends of its 95 % interval.

    Args:
        embed: uint8 [N, S, S, 3] → their embeddings.
        images: what is judged on; labels only judge.
        clean: their embeddings.
        clamp: bounds of log σ² before it is scaled to embeddings of unit length, where they are known.

    Returns:
        `auroc_KIND` with `…_low` and `…_high`: P(u(degraded) > u(clean)) over all pairs at severity 3, for each kind
        of degradation. `variance_spread`: std over images of mean log σ². `variance_clamped`: part of the log σ² at the
        ends of a `clamp`. `variance_error`: rank correlation of the mean σ² with the squared distance to the clean
        image's embedding, over the degraded images; a head under .05 is dead. With labels, of u and of the distance to
        the nearest neighbour (`…_gallery`): `r_auroc`, `r_auroc_in_class`, `aurc`, `augrc`, `e_aurc`, `error_cut_80`;
        see `vssl.measures.uncertainty`.
    """
    figures = degraded_figures(embed, images.pixels, clean)
    log_variance = np.log(clean.variance)
    figures["variance_spread"] = float(log_variance.mean(axis=1).std())
    if clamp is not None:
        figures["variance_clamped"] = clamped(log_variance + np.log(log_variance.shape[1]), clamp)
    if images.labels is not None and len(images) > 1:
        found = nearest(clean.embedding, clean.embedding, 1, exclude_self=True)
        wrong = images.labels[found.rows[:, 0]] != images.labels
        figures |= match_figures(clean.uncertainty, wrong, images.labels, "")
        figures |= match_figures(-found.similarity[:, 0], wrong, images.labels, "_gallery")
    return figures


def degraded_figures(embed: Embed, pixels: Pixels, clean: Embeddings) -> dict[str, float]:
    """AUROC for each kind of degradation, and how well σ² foretells what they cost; see `uncertainty_figures`."""
    # Drawn at random: the images lie in the order of their classes, and classes differ in uncertainty.
    picked = np.random.default_rng(SEED).permutation(len(pixels))[:MAX_DEGRADED]
    before = clean.uncertainty[picked]
    figures: dict[str, float] = {}
    variances, errors = [], []
    for kind in CORRUPTIONS:
        degraded = embed(degrade(pixels[picked], kind, SEVERITY, SEED))
        figures |= with_interval(f"auroc_{kind}", auroc, before, degraded.uncertainty)
        variances.append(degraded.variance.mean(axis=1))
        errors.append(np.square(degraded.embedding - clean.embedding[picked]).sum(axis=1))
    figures["variance_error"] = rank_correlation(np.concatenate(variances), np.concatenate(errors))
    return figures


def out_of_distribution_figures(clean: Embeddings, others: Embeddings) -> dict[str, float]:
    """`ood_auroc`, `ood_fpr95` of u, of the distance to the nearest of the images judged on (`…_gallery`), and of the
    novelty against a random half of them (`…_novelty`), judged on the other half.
    """
    own = nearest(clean.embedding, clean.embedding, 1, exclude_self=True).similarity[:, 0]
    other = nearest(others.embedding, clean.embedding, 1).similarity[:, 0]
    known, judged = np.array_split(np.random.default_rng(SEED).permutation(len(own)), 2)
    reference, inside, outside = (np.log(x) for x in (clean.variance[known], clean.variance[judged], others.variance))
    mean, directions = reference.mean(axis=0), fit_directions(reference)
    pairs: dict[str, tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]] = {
        "": (clean.uncertainty, others.uncertainty),
        "_gallery": (-own, -other),
        "_novelty": (novelty(inside, mean, directions), novelty(outside, mean, directions)),
    }
    return {
        f"ood_{name}{tier}": measure(inside, outside)
        for tier, (inside, outside) in pairs.items()
        for name, measure in (("auroc", auroc), ("fpr95", fpr_at_acceptance))
    }


def match_figures(
    uncertainty: npt.NDArray[np.float32], wrong: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64], tier: str
) -> dict[str, float]:
    """How well an uncertainty tells right neighbours from wrong ones; none where there is only one kind."""
    if wrong.all() or not wrong.any():
        return {}
    figures = with_interval(f"r_auroc{tier}", r_auroc, uncertainty, wrong)
    figures |= with_interval(f"r_auroc_in_class{tier}", within_class_r_auroc, uncertainty, wrong, labels)
    for measure in (aurc, augrc, e_aurc):
        figures |= with_interval(f"{measure.__name__}{tier}", measure, uncertainty, wrong)
    return figures | with_interval(f"error_cut_80{tier}", error_cut, uncertainty, wrong)


def with_interval(name: str, statistic: Callable[..., float], *columns: npt.NDArray[np.generic]) -> dict[str, float]:
    """A figure and the ends of its bootstrap interval."""
    low, high = bootstrap(statistic, *columns, samples=200, seed=SEED)
    return {name: statistic(*columns), f"{name}_low": low, f"{name}_high": high}

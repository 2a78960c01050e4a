"""Whether a run still learns. If not, one sentence says what is wrong and what to change, and the run stops."""

import math

SETTLED = 200
"""Steps of a phase before which its figures are not judged."""

BAD_JUDGEMENTS = 2
"""Judgements in a row that must be bad."""

LEAST_STD, LEAST_RANK = 0.05, 1.5
"""√D·std and effective rank under which embeddings are one point, or one line."""

LEAST_SPREAD, LEAST_CORRELATION = 0.01, 0.05
"""Spread of log σ² over images, and its rank correlation with the squared error, under which a head is dead."""

FORGETTING, FORGOTTEN = 0.5, 0.25
"""Part of the ten nearest neighbours of the pretrained encoder under which a run warns, and stops."""

CURE = "lower optimiser.learning_rate, train fewer layers (adapt.train=last:2), or raise teacher.momentum"


def not_finite(terms: dict[str, float]) -> str | None:
    """What to say where a term of the loss is infinite or not a number."""
    if all(map(math.isfinite, terms.values())):
        return None
    return f"the loss is not finite ({terms}). Lower optimiser.learning_rate"


def collapsed(figures: dict[str, float]) -> str | None:
    """What to say of figures of an encoder whose embeddings are all alike."""
    if figures["std"] >= LEAST_STD and figures["rank"] >= LEAST_RANK:
        return None
    return (
        f"the embeddings have collapsed (√D·std {figures['std']:.3f}, effective rank {figures['rank']:.1f}). Raise "
        "objective.coding_rate, objective.decorrelation or optimiser.batch, or lower optimiser.learning_rate"
    )


def dead(figures: dict[str, float]) -> str | None:
    """What to say of figures of a variance head that tells no image from another, or not by its error."""
    if figures["spread"] >= LEAST_SPREAD and figures["rho"] >= LEAST_CORRELATION:
        return None
    return (
        f"the variance head is dead (spread of log σ² {figures['spread']:.3f}, rank correlation with the error "
        f"{figures['rho']:.3f}). Raise variance.share or variance.learning_rate; or the encoder has too low a rank"
    )


def forgetting(figures: dict[str, float]) -> str | None:
    """What to say of figures of an adapted encoder that has lost more than half of its neighbours."""
    overlap = figures.get("overlap", 1.0)
    if overlap >= FORGETTING:
        return None
    return f"warning: {overlap:.0%} of the nearest neighbours are left that the pretrained encoder found ({CURE})"


def forgotten(figures: dict[str, float]) -> str | None:
    """What to say of figures of an adapted encoder that has little left of what it knew."""
    overlap = figures.get("overlap", 1.0)
    if overlap >= FORGOTTEN:
        return None
    return f"the pretrained encoder is forgotten: {overlap:.0%} of its nearest neighbours are left. {CURE.capitalize()}"


class Patience:
    """Counts bad judgements in a row; `bad` of them were made before a run was interrupted."""

    def __init__(self, bad: int = 0) -> None:
        self.bad = bad

    def judge(self, step: int, complaint: str | None) -> str | None:
        """The complaint, once it has been made often enough after the first steps."""
        self.bad = 0 if complaint is None or step < SETTLED else self.bad + 1
        return complaint if self.bad >= BAD_JUDGEMENTS else None

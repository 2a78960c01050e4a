"""What changes over a phase, as pure functions of the step."""

import math


def warm_up_cosine(step: int, steps: int, warm_up: float) -> float:
    """Factor of the learning rate at `step` of `steps`: linear up over a `warm_up` part, then a cosine down to 0."""
    rising = warm_up * steps
    if step < rising:
        return min(1.0, (step + 1) / rising)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def teacher_momentum(step: int, steps: int, base: float) -> float:
    """τ at `step` of `steps`: from `base` to 1 by a cosine (BYOL, arXiv 2006.07733, appendix C)."""
    return 1 - (1 - base) * 0.5 * (1 + math.cos(math.pi * step / steps))

"""What changes over a run, as pure functions of the step; and where a step's randomness comes from."""

import math

import torch
from torch import Generator, Tensor


def warm_up_cosine(step: int, steps: int, warm_up: float) -> float:
    """Factor of the learning rate at `step` of `steps`: linear up over a `warm_up` part, then a cosine down to 0."""
    rising = warm_up * steps
    if step < rising:
        return (step + 1) / rising if rising > 1 else 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def teacher_momentum(step: int, steps: int, base: float) -> float:
    """τ at `step` of `steps`: from `base` to 1 by a cosine (BYOL, arXiv 2006.07733, appendix C)."""
    return 1 - (1 - base) * 0.5 * (1 + math.cos(math.pi * step / steps))


def generator(seed: int, phase: int, step: int) -> Generator:
    """The random numbers of one step, from nothing but its coordinates: a resumed run needs no random state."""
    return torch.Generator().manual_seed(((seed * 2 + phase) << 40) + step)


def batch_indices(seed: int, phase: int, step: int, count: int, batch: int) -> Tensor:
    """Indices [batch] of the images of one step: each epoch a new permutation, its last partial batch left out."""
    per_epoch = count // batch
    epoch, position = divmod(step, per_epoch)
    # Steps count up from 0 and epochs down from the top of the field, so the two never share a generator.
    order = torch.randperm(count, generator=generator(seed, phase, 2**40 - 1 - epoch))
    return order[position * batch : (position + 1) * batch]

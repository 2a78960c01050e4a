"""What changes over a run, as pure functions of the step; and where a step's randomness comes from."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor


def warm_up_cosine(step: int, steps: int, warm_up: float) -> float:
    """Factor of the learning rate at `step` of `steps`: linear up over a `warm_up` part, then a cosine down to 0."""
    rising = warm_up * steps
    if step < rising:
        return min(1.0, (step + 1) / rising)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def teacher_momentum(step: int, steps: int, base: float) -> float:
    """τ at `step` of `steps`: from `base` to 1 by a cosine (BYOL, arXiv 2006.07733, appendix C)."""
    return 1 - (1 - base) * 0.5 * (1 + math.cos(math.pi * step / steps))


def generator(*coordinates: int, device: torch.device | None = None) -> Generator:
    """Random numbers from nothing but their coordinates (seed, phase, step): a resumed run needs no random state.

    Hashed, because torch's CPU generator reads 32 bits of its seed and no more.
    """
    seed = int(np.random.SeedSequence(coordinates).generate_state(1)[0])
    return torch.Generator(device or "cpu").manual_seed(seed)


def batch_indices(seed: int, phase: int, step: int, count: int, batch: int) -> Tensor:
    """Indices [batch] of the images of one step: each epoch a new permutation, its last partial batch left out."""
    per_epoch = count // batch
    epoch, position = divmod(step, per_epoch)
    return permutation(seed, phase, epoch, count)[position * batch : (position + 1) * batch]


@lru_cache(2)  # one of a million images takes longer than a step
def permutation(seed: int, phase: int, epoch: int, count: int) -> Tensor:
    """The order [count] in which one epoch takes all images."""
    return torch.randperm(count, generator=generator(seed, phase, epoch, 1))  # a coordinate more than a step has

"""Which images a step takes, and where its randomness comes from: both follow from (seed, phase, step) alone."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Order:
    """Which images a step takes: `order(step)` gives the indices of this process's part; see `batch_indices`."""

    seed: int
    phase: int
    count: int
    batch: int
    part: slice = field(default_factory=lambda: slice(None))

    def __call__(self, step: int) -> Tensor:
        """Indices of one step."""
        return batch_indices(self.seed, self.phase, step, self.count, self.batch)[self.part]


@dataclass(frozen=True)
class Everything:
    """An order that takes all of `count` images in turn, `batch` a step; the last step goes on with the first ones."""

    count: int
    batch: int

    def __call__(self, step: int) -> Tensor:
        """Indices of one step."""
        return torch.arange(step * self.batch, (step + 1) * self.batch) % self.count


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

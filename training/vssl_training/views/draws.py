"""Random numbers for the views of a whole batch, from a generator that the caller seeds."""

import math

import torch
from torch import Generator, Tensor


class Draws:
    """Random numbers, one an image, shaped [N]; for several views of each image, view after view.

    `part` of the `count` images is this process's: all processes draw for all images, and keep what is theirs.
    """

    def __init__(self, generator: Generator, count: int, views: int = 1, part: slice = slice(None)) -> None:
        self.generator = generator
        self.count = count
        self.views = views
        self.part = part

    def uniform(self, low: float, high: float) -> Tensor:
        """U(low, high)."""
        drawn = torch.rand(self.views, self.count, generator=self.generator, device=self.generator.device)
        return drawn[:, self.part].flatten() * (high - low) + low

    def log_uniform(self, low: float, high: float) -> Tensor:
        """e^U(ln low, ln high)."""
        return self.uniform(math.log(low), math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1) [N, *shape]."""
        shape = (self.views, self.count, *shape)
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return drawn[:, self.part].flatten(0, 1)

    def chance(self, probability: float | Tensor) -> Tensor:
        """True with `probability`, one for all or one for each."""
        return self.uniform(0, 1) < probability

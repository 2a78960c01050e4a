"""Degraded copies of an image: which, how strong, and the pictures; all of it follows from seed and image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vssl.arrays import Pixels
from vssl.images.degradations import DEGRADATIONS


@dataclass(frozen=True)
class Copies:
    """How images are degraded: `count` copies each, of `kinds` (names of the registry)."""

    kinds: tuple[str, ...]
    count: int
    seed: int

    def of(self, image: int) -> list[tuple[int, float]]:
        """Number of the kind, and strength U(0, 1), of each copy of an image; no kind twice while there are others."""
        rng = np.random.default_rng([self.seed, image])
        turns = -(-self.count // len(self.kinds))
        kinds = np.concatenate([rng.permutation(len(self.kinds)) for _ in range(turns)])[: self.count]
        return list(zip(kinds.tolist(), rng.uniform(0, 1, self.count).tolist(), strict=True))

    def pictures(self, image: int, pixels: Pixels) -> Pixels:
        """The image itself, then its copies: uint8 [1 + count, S, S, 3]."""
        copies = [
            DEGRADATIONS[self.kinds[kind]](pixels, strength, np.random.default_rng([self.seed, image, number]))
            for number, (kind, strength) in enumerate(self.of(image))
        ]
        return np.stack([pixels, *copies])


def known_kinds(names: Sequence[str] | None) -> tuple[str, ...]:
    """The kinds that are named, or all."""
    return tuple(DEGRADATIONS) if names is None else tuple(names)

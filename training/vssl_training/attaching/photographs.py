"""The images that a head is attached by: drawn from one or several sources, a part of them held back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vssl.arrays import Int64s, Mask, Pixels
from vssl.errors import UsageError
from vssl.images.decoding import DEFAULT_LIMITS, Preprocessing, decode
from vssl.images.names import numbered
from vssl.sources.source import Source
from vssl_training.data.loading import chosen_splits
from vssl_training.data.torchvision import open_data

LEAST_IMAGES = 50
"""Fewer are refused: no statistics of so few hold for others."""

CALIBRATED_FROM = 500
"""With fewer images nothing is calibrated: too few are held back."""


@dataclass(frozen=True)
class Photographs:
    """N images, in random order; the first `held_back` of them nothing is ever fitted to, but choices and calibration.

    Attributes:
        sources: where they are.
        names: source and path of each.
        labels: class of each [N], or None where a source has no class folders.
        held_back: how many are.
        found: how many the sources hold in all.
    """

    sources: tuple[Source, ...]
    names: tuple[tuple[int, str], ...]
    labels: Int64s | None
    held_back: int
    found: int

    def __len__(self) -> int:
        return len(self.names)

    def held(self, images: Int64s) -> Mask:
        """Which of some images [N], by their numbers, are held back, [N]."""
        held: Mask = images < self.held_back
        return held

    def read(self, image: int, preprocessing: Preprocessing) -> Pixels:
        """One of them, uint8 [S, S, 3].

        Raises:
            ImageError: it can't be decoded.
            OSError: it can't be read.
        """
        source, path = self.names[image]
        return decode(self.sources[source].read(path, DEFAULT_LIMITS.max_bytes), preprocessing)

    def close(self) -> None:
        """Release what the sources hold open."""
        for source in self.sources:
            source.close()


def draw(locations: Sequence[str], images: int, seed: int, say: Callable[[str], None]) -> Photographs:
    """Draw at most `images` at random from all that the locations hold together; of splits, from `train`.

    Raises:
        UsageError: there are fewer than `LEAST_IMAGES`, or a location holds none.
    """
    sources = tuple(open_data(chosen_splits(location, None, say)[0]) for location in locations)
    paths = [list(source.paths()) for source in sources]
    for source in sources:
        for line in filter(None, (source.passed_over.as_text(), source.passed_over.unreadable_as_text())):
            say(line)
    labels = [labels_of(source, own) for source, own in zip(sources, paths, strict=True)]
    everything = [(number, path) for number, own in enumerate(paths) for path in own]
    if len(everything) < LEAST_IMAGES:
        told = ", ".join(locations)
        raise UsageError(f"{told}: {len(everything)} images are too few to attach by: at least {LEAST_IMAGES}")
    order = np.random.default_rng(seed).permutation(len(everything))[:images]
    all_labels = numbered([label for own in labels for label in own])
    chosen = None if all_labels is None else np.array(all_labels[0])[order]
    return Photographs(
        sources, tuple(everything[i] for i in order), chosen, part_held_back(len(order)), len(everything)
    )


def labels_of(source: Source, paths: list[str]) -> list[str | None]:
    """Name of the class of each image, None where the source has no classes."""
    found = source.labels(paths)
    return [None] * len(paths) if found is None else [found[1][label] for label in found[0]]


def part_held_back(images: int) -> int:
    """How many of so many images are held back: a tenth, at least 100, but never more than a fifth."""
    return max(images // 10, min(100, images // 5))

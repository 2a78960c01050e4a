"""The pass through the backbone: said beforehand how long it takes and how large it gets, then the cache is filled."""

import hashlib
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vssl.arrays import Pixels
from vssl.errors import UsageError
from vssl.images.decoding import ImageError, Preprocessing
from vssl_training.attaching.cache import SHARD, Cache, fill, key_of, shard_path
from vssl_training.attaching.copies import Copies, known_kinds
from vssl_training.attaching.photographs import Photographs
from vssl_training.encoder.embedder import at_once
from vssl_training.encoder.embedding import EmbeddingLayer
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.modes import evaluating
from vssl_training.loop.progress import Progress, clock
from vssl_training.recipe.sections import Recipe
from vssl_training.run.record import preprocessing_of
from vssl_training.views.pixels import to_float

COMPARED = 64
"""Images of which one must differ from the first."""

TIMED = 8
"""Images, with their copies, that the speed is measured on."""


def weights_sha256(backbone: Backbone) -> str:
    """Hash of all numbers of a backbone, with their names."""
    digest = hashlib.sha256()
    for name, values in backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Sight:
    """What a cache keeps of uint8 pictures [n, S, S, 3]: what a head sees, and what the embedding is made of."""

    def __init__(self, backbone: Backbone, recipe: Recipe) -> None:
        self.backbone = backbone
        self.sees, self.detail = recipe.variance.sees, recipe.variance.detail
        plain = recipe.network.embedding.model_copy(update={"whiten": None, "centre": False})
        self.layer = EmbeddingLayer(plain, 0)
        self.key = (recipe.network.backbone, self.sees, self.detail, plain.of, plain.cells)

    @torch.no_grad()
    def __call__(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        """[n, P] and [n, F]."""
        device = next(self.backbone.parameters()).device
        seen, pooled = [], []
        with evaluating(self.backbone):
            for part in torch.split(torch.from_numpy(pixels), at_once(pixels.shape[1], device)):
                features: Features = self.backbone(to_float(part.to(device)))
                seen.append(features.seen(self.sees, self.detail))
                pooled.append(self.layer.pooled(features))
        return torch.cat(seen), torch.cat(pooled)


def look(
    backbone: Backbone,
    recipe: Recipe,
    photographs: Photographs,
    folder: Path,
    seed: int,
    progress: Progress,
) -> Cache:
    """Fill the cache of a backbone and of photographs, and read it.

    Args:
        backbone: is frozen.
        recipe: says which copies, and what of the backbone is kept.
        photographs: to look at.
        folder: of the cache.
        seed: of the copies.
        progress: is told of the time and the disk that it takes, and of what is done.

    Raises:
        UsageError: all images are the same picture, the disk has too little space, or `folder` is another's.
        VsslError: the backbone says what is no finite number.
    """
    assert recipe.attach is not None
    preprocessing = preprocessing_of(recipe)
    copies = Copies(known_kinds(recipe.variance.kinds), recipe.attach.copies, seed)
    sight = Sight(backbone, recipe)
    check_different(photographs, preprocessing)
    announce(sight, photographs, copies, preprocessing, folder, progress)
    key = key_of(weights_sha256(backbone), preprocessing, photographs, copies, sight.key)
    shards = -(-len(photographs) // SHARD)
    started = False

    def advance(done: int) -> None:
        nonlocal started
        if not started:
            progress.begin("images", done - 1, shards, SHARD)
            started = True
        progress.advance(done, 0.0, {})

    cache = fill(folder, key, photographs, copies, preprocessing, sight, advance)
    if started:
        progress.end()
    return cache


def check_different(photographs: Photographs, preprocessing: Preprocessing) -> None:
    """Refuse images that are all the same picture, by some of them.

    Raises:
        UsageError: they are.
    """
    first: Pixels | None = None
    for image in range(min(COMPARED, len(photographs))):
        try:
            pixels = photographs.read(image, preprocessing)
        except (ImageError, OSError):
            continue
        if first is not None and not np.array_equal(first, pixels):
            return
        first = pixels
    if first is not None:
        raise UsageError("all of the images are the same picture; there is nothing to learn from them")


def announce(
    sight: Sight,
    photographs: Photographs,
    copies: Copies,
    preprocessing: Preprocessing,
    folder: Path,
    progress: Progress,
) -> None:
    """Say how long it takes and how much disk, by a few images; of what is in the cache already neither is needed.

    Raises:
        UsageError: the disk has too little space.
    """
    pictures = None
    begun, tried = time.monotonic(), 0
    for image in range(min(COMPARED, len(photographs))):
        try:
            pictures = copies.pictures(image, photographs.read(image, preprocessing))
        except (ImageError, OSError):
            continue
        seen, pooled = sight(pictures)
        tried += 1
        if tried == TIMED:
            break
    if pictures is None:
        return  # the cache tells why none can be read
    missing = SHARD * sum(not shard_path(folder, number).exists() for number in range(-(-len(photographs) // SHARD)))
    left = min(missing, len(photographs))
    needed = left * (1 + copies.count) * 2 * (seen.shape[1] + pooled.shape[1])
    seconds = (time.monotonic() - begun) / tried * left
    progress.say(
        f"{len(photographs):,} of {photographs.found:,} images, each with {copies.count} degraded copies; about "
        f"{clock(seconds)} and {needed / 2**20:,.0f} MiB in {folder}; {photographs.held_back:,} of them are held back "
        "to choose and to calibrate by"
    )
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UsageError(f"{folder}: needs {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} are free; take fewer images")

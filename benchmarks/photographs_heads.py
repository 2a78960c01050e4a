"""What `benchmarks.photographs` asks: heads attached as `vssl attach` does it, and pictures that the judge degraded.

The backbone's answers are kept in a folder, so that a table costs seconds once they are there.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.photographs_judge import JUDGES, judged_pictures, own_pictures
from vssl.arrays import Float32s, Float64s, Int64s, Pixels
from vssl.files import atomic_write
from vssl.images.decoding import decode
from vssl.images.names import numbered
from vssl.sources.opening import open_source
from vssl_training.attaching.attach import settled, trained
from vssl_training.attaching.cache import Cache
from vssl_training.attaching.choosing import vectors_of
from vssl_training.attaching.head import squared_errors
from vssl_training.attaching.judging import correct_and_judge
from vssl_training.attaching.looking import Sight, look
from vssl_training.attaching.photographs import Photographs, draw
from vssl_training.encoder.backbones import split_name
from vssl_training.encoder.embedder import Embedder
from vssl_training.encoder.embedding import EmbeddingLayer
from vssl_training.encoder.features import Backbone
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.encoder.sources import find_weights
from vssl_training.loop.progress import Progress
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe
from vssl_training.run.record import preprocessing_of

Hand = Callable[[Pixels, int, int], tuple[Pixels, list[float]]]
"""An image, its number and a seed → it and a copy of each kind, and the copies' strengths."""

LIMIT = 100_000_000
FREE = 500
"""Free photographs to attach by."""

PART = 16
"""Images, with their copies, of a file of answers."""


@dataclass(frozen=True)
class Bench:
    """A backbone with its weights, of this file, and its recipe, and where its answers are kept."""

    backbone: Backbone
    weights: str
    recipe: Recipe
    folder: Path
    progress: Progress
    seed: int


@dataclass(frozen=True)
class Fitted:
    """What heads are trained on: photographs, and what the backbone said of them and their copies."""

    photographs: Photographs
    cache: Cache

    @property
    def held(self) -> Cache:
        """The part that nothing was fitted to."""
        return self.cache.part(self.photographs.held(self.cache.images))

    @property
    def classes(self) -> list[str]:
        """Names of the classes of the cache's images."""
        sources = self.photographs.sources
        named = [self.photographs.names[image] for image in self.cache.images]
        return [sources[source].label(path) or "" for source, path in named]


@dataclass(frozen=True)
class Answers:
    """What a network says of N images with C copies each.

    Attributes:
        vectors: embeddings [N, 1 + C, D].
        uncertainty: u [N, 1 + C].
        predicted: squared error as foretold [N, 1 + C].
        error: as it was [N, 1 + C], 0 for the images themselves.
        kinds: numbers of the kinds [N, 1 + C], −1 for the images themselves.
        strengths: [N, 1 + C].
    """

    vectors: Float32s
    uncertainty: Float64s
    predicted: Float64s
    error: Float64s
    kinds: Int64s
    strengths: Float32s


@dataclass(frozen=True)
class Study:
    """A backbone, the photographs, and all that was found out about them so far.

    Attributes:
        on: the backbone.
        data: clothes, in `train`, `val` and `test`.
        photos: of many kinds, only asked about.
        free: of other kinds, to attach on.
        images: clothes to attach by.
        degraded: test images that the judge degrades.
        clean: test images without copies; None for all.
    """

    on: Bench
    data: str
    photos: str | None
    free: str | None
    images: int
    degraded: int
    clean: int | None

    @cached_property
    def clothes(self) -> Fitted:
        """The clothes that heads are attached on; of them come the banks of neighbours."""
        return fitted(self.on, "clothes", f"{self.data}::train", self.images)

    @cached_property
    def others(self) -> Fitted:
        """The free photographs that heads are attached on."""
        if self.free is None:
            raise SystemExit("--free: needed for this table")
        return fitted(self.on, "free", self.free, FREE)

    @cached_property
    def network(self) -> Embedder:
        """Attached on clothes."""
        return attached(self.on, self.clothes)

    @cached_property
    def network_of_others(self) -> Embedder:
        """Attached on the free photographs."""
        return attached(self.on, self.others)

    def split(self, name: str, images: int | None = None) -> tuple[Cache, list[str]]:
        """Clothes of a split without copies, and the names of their classes."""
        return asked(self.on, f"{name}-clean", f"{self.data}::{name}", images)

    @cached_property
    def judged(self) -> Cache:
        """Test clothes with the judge's copies."""
        return asked(self.on, "test-judged", f"{self.data}::test", self.degraded, judged_pictures)[0]

    @cached_property
    def by_own_hand(self) -> Cache:
        """The same clothes with copies as `vssl attach` makes them."""
        return asked(self.on, "test-own", f"{self.data}::test", self.degraded, own_pictures)[0]

    @cached_property
    def judged_photos(self) -> Cache:
        """Photographs of many kinds with the judge's copies."""
        if self.photos is None:
            raise SystemExit("--photos: needed for this table")
        return asked(self.on, "photos-judged", self.photos, self.degraded, judged_pictures)[0]


def bench(backbone: str, weights: str, changes: list[str], folder: Path, seed: int = 0) -> Bench:
    """Read a backbone; its answers are kept under its name and size."""
    recipe = override(load_recipe("attach"), [f"network.backbone={backbone}", *changes])
    pretrained = load_pretrained(recipe, weights)
    place = folder / f"{pretrained.recipe.network.backbone.replace(':', '-')}-{pretrained.recipe.size}"
    place.mkdir(parents=True, exist_ok=True)
    return Bench(pretrained.backbone, weights, pretrained.recipe, place, Progress(), seed)


def fitted(on: Bench, name: str, location: str, images: int) -> Fitted:
    """Fill the cache of a location as `vssl attach` does, and read it."""
    photographs = draw([location], images, on.seed, on.progress.say)
    cache = look(on.backbone, on.recipe, photographs, on.folder / name, on.seed, on.progress)
    return Fitted(photographs, cache)


def attached(on: Bench, data: Fitted, cache: Cache | None = None) -> Embedder:
    """A network as `vssl attach` makes it, by another cache of the same images where one is given."""
    cache = data.cache if cache is None else cache
    recipe = settled(on.recipe, cache, data.photographs, on.progress)
    embedder = trained(on.backbone, recipe, cache, data.photographs, on.seed, on.progress)
    correct_and_judge(embedder, cache.part(data.photographs.held(cache.images)), tuple(JUDGES))
    return embedder


def without(cache: Cache, left_out: set[int]) -> Cache:
    """A cache whose copies of some kinds are replaced by others of the same image."""
    allowed = ~np.isin(cache.kinds, list(left_out))
    allowed[:, 0] = False
    rows = np.empty(cache.kinds.shape, np.int64)
    for image, row in enumerate(allowed):
        rows[image] = np.concatenate([[0], np.resize(np.flatnonzero(row), len(row) - 1)])
    every = np.arange(len(cache))[:, None]
    at = every, rows
    kinds, strengths = cache.kinds[at], cache.strengths[at]
    return Cache(cache.inputs[at], cache.pooled[at], kinds, strengths, cache.images, [])


def asked(on: Bench, name: str, location: str, images: int | None, hand: Hand | None = None) -> tuple[Cache, list[str]]:
    """What the backbone says of some images of a location, drawn at random, and the names of their classes.

    Args:
        on: the backbone.
        name: under which its answers are kept.
        location: of the images.
        images: how many at most.
        hand: degrades them; None: no copies.
    """
    source = open_source(location)
    paths = list(source.paths())
    order = np.random.default_rng(on.seed).permutation(len(paths))[:images]
    preprocessing, sight = preprocessing_of(on.recipe), Sight(on.backbone, on.recipe)

    def pictures(number: int) -> tuple[Pixels, list[float]]:
        image = decode(source.read(paths[number], LIMIT), preprocessing)
        return (image[None], []) if hand is None else hand(image, number, on.seed)

    parts = []
    for first in range(0, len(order), PART):
        file = on.folder / name / f"{first:06}.npz"
        if not file.exists():
            write(file, sight, [pictures(int(number)) for number in order[first : first + PART]])
        with np.load(file) as kept:
            some = slice(len(order) - first)  # a table of more images may have left more here
            parts.append((kept["inputs"][some], kept["pooled"][some], kept["strengths"][some]))
    inputs, pooled, strengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    kinds = np.tile(np.arange(-1, 0 if hand is None else len(JUDGES)), (len(order), 1))
    source.close()
    cache = Cache(inputs, pooled, kinds, strengths, order, [])
    return cache, [source.label(paths[number]) or "" for number in order]


def write(file: Path, sight: Sight, made: list[tuple[Pixels, list[float]]]) -> None:
    """Ask the backbone about pictures, and keep what it says."""
    seen = sight(np.concatenate([each for each, _ in made]))
    inputs, pooled = (part.half().view(len(made), -1, part.shape[1]).numpy() for part in seen)
    strengths = np.array([[0.0, *strength] for _, strength in made], np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, pooled=pooled, strengths=strengths)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as target:
        target.write(buffer.getbuffer())


@torch.no_grad()
def answers(embedder: Embedder, cache: Cache) -> Answers:
    """Ask a network."""
    layer = embedder.mean
    assert isinstance(layer, EmbeddingLayer)
    vectors = vectors_of(layer, cache)
    rows = torch.from_numpy(cache.inputs).flatten(0, 1)
    parts = [embedder.log_variance(part.float()) for part in torch.split(rows, 1024)]
    uncertainty = torch.cat([part.double().mean(1) for part in parts]).view(cache.kinds.shape)
    predicted = torch.cat([part.double().exp().mean(1) for part in parts]).view(cache.kinds.shape)
    error = squared_errors(torch.from_numpy(vectors)).double().mean(-1)
    return Answers(vectors, uncertainty.numpy(), predicted.numpy(), error.numpy(), cache.kinds, cache.strengths)


def energy(on: Bench, cache: Cache) -> Float64s | None:
    """−log Σ exp of the logits of the backbone's own classifier [N], by its features of clean images.

    It is high where no class is likely (Liu et al. 2020, arXiv 2010.03759). None where the file holds no classifier.
    """
    kind, name = split_name(on.recipe.network.backbone)
    tensors = list(find_weights(kind, name, on.weights).tensors.values())[-2:]
    features = torch.from_numpy(cache.pooled[:, 0, : on.backbone.features]).double()
    weight, bias = tensors
    if weight.shape != (*bias.shape, features.shape[1]):
        return None
    found: Float64s = -(features @ weight.double().T + bias.double()).logsumexp(1).numpy()
    return found


def class_numbers(*named: list[str]) -> list[Int64s]:
    """Class names of several sets of images → numbers that mean the same in all of them."""
    found = numbered([name for names in named for name in names])
    assert found is not None
    return list(np.split(np.array(found[0]), np.cumsum([len(names) for names in named])[:-1]))

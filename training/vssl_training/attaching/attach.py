"""`vssl attach`: a frozen backbone, an embedding and a variance head on it → a run like any other."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vssl.errors import UsageError
from vssl_training.attaching.cache import Cache
from vssl_training.attaching.choosing import choose, moments_of, vectors_of
from vssl_training.attaching.copies import known_kinds
from vssl_training.attaching.head import train_head
from vssl_training.attaching.judging import correct_and_judge, table
from vssl_training.attaching.looking import look, weights_sha256
from vssl_training.attaching.photographs import CALIBRATED_FROM, LEAST_IMAGES, Photographs, draw
from vssl_training.attaching.saving import save_calibration, save_record, sha256_of
from vssl_training.data.loading import MAX_UNREADABLE
from vssl_training.data.stream import SHOWN, too_many_unreadable
from vssl_training.encoder.embedder import Embedder, build_embedder
from vssl_training.encoder.embedding import EmbeddingLayer, check_embedding
from vssl_training.encoder.features import Backbone
from vssl_training.encoder.heads import StatisticsHead
from vssl_training.encoder.module_net import ModuleBackbone
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.encoder.student import Encoder
from vssl_training.loop.progress import Progress
from vssl_training.recipe.sections import Channels, EmbeddingSettings, Recipe
from vssl_training.run.folder import Run, check_same
from vssl_training.run.record import BackboneRecord, Budget, DataRecord, RunRecord, Schedule


@dataclass(frozen=True)
class AttachJob:
    """By what and where to attach.

    Attributes:
        locations: of the photographs.
        out: folder of the run; an interrupted one goes on.
        seed: of every random choice.
        cache: folder of what the backbone says; in the run, and removed at its end, by default.
    """

    locations: tuple[str, ...]
    out: Path
    seed: int = 0
    cache: Path | None = None


def attach_pretrained(recipe: Recipe, weights: str | Path | None, job: AttachJob) -> None:
    """`attach_to` the backbone that a recipe names, with weights as `load_pretrained` finds them."""
    progress = Progress()
    pretrained = load_pretrained(recipe, weights)
    for line in pretrained.notes:
        progress.say(line)
    attach_to(pretrained.backbone, pretrained.recipe, pretrained.about, job, progress)


def attach_module(module: nn.Module, recipe: Recipe, job: AttachJob, size: int, mean: Channels, std: Channels) -> None:
    """`attach_to` any network: see `vssl_training.attach`."""
    image = recipe.image.settled().model_copy(update={"size": size, "mean": mean, "std": std})
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    network = recipe.network.model_copy(update={"backbone": f"module:{name}"})
    backbone = ModuleBackbone(module, size, mean, std)
    about = BackboneRecord(source="module", architecture=name, weights_sha256=weights_sha256(backbone))
    attach_to(backbone, recipe.model_copy(update={"image": image, "network": network}), about, job)


def attach_to(
    backbone: Backbone, recipe: Recipe, about: BackboneRecord, job: AttachJob, progress: Progress | None = None
) -> None:
    """Attach embedding and variance to a frozen backbone, by photographs without labels.

    Where they lie in class folders, those choose the embedding; nothing is trained by them.

    Args:
        backbone: with its weights.
        recipe: with `attach`, and no `auto` in its `image`.
        about: whose network it is.
        job: by what and where.
        progress: says what happens.

    Raises:
        UsageError: too few images, or all the same; the recipe is of another kind; `out` or `cache` hold other things.
        VsslError: too many of the files can't be read; the backbone says what is not finite.
    """
    progress = progress or Progress()
    check_attachable(recipe, backbone)
    run = Run(job.out)
    if run.record_path.exists():
        check_again(run, recipe, about, job)
        if run.finished:
            progress.say(f"{run.path}: this run is finished")
            return
    assert recipe.attach is not None
    photographs = draw(job.locations, recipe.attach.images, job.seed, progress.say)
    folder = job.cache or run.cache_path
    looked = look(backbone.eval(), recipe, photographs, folder, job.seed, progress)
    check_read(looked, photographs, progress)
    recipe = settled(recipe, looked, photographs, progress)
    embedder = trained(backbone, recipe, looked, photographs, job.seed, progress)
    held = looked.part(photographs.held(looked.images))
    judgement = correct_and_judge(embedder, held, known_kinds(recipe.variance.kinds))
    record = RunRecord(
        recipe=recipe,
        seed=job.seed,
        data=DataRecord(location=" ".join(job.locations), images=len(looked), sha256=sha256_of(photographs, looked)),
        budget=Budget(epochs=recipe.epochs),
        schedule=Schedule(encoder=0, variance=0),
        backbone=about,
    )
    save_record(run, record, photographs, looked, judgement)
    for line in table(judgement):
        progress.say(line)
    if len(looked) >= CALIBRATED_FROM:
        save_calibration(run, embedder, recipe, photographs, looked, progress)
    else:
        progress.say(
            f"not calibrated: of {len(looked)} images too few are held back, of {CALIBRATED_FROM} enough would be; "
            "`vssl calibrate` calibrates a bundle with images of yours"
        )
    run.save_weights(embedder)
    photographs.close()
    if job.cache is None:
        shutil.rmtree(folder, ignore_errors=True)


def check_attachable(recipe: Recipe, backbone: Backbone) -> None:
    """Refuse a recipe that is for training an encoder.

    Raises:
        UsageError: it is.
    """
    if recipe.attach is None or recipe.epochs is None:
        raise UsageError(f"recipe {recipe.name}: has no `attach`; take recipe attach, or train with `vssl train`")
    if recipe.network.embedding.of == "mean":
        raise UsageError("network.embedding.of: mean is the head of an encoder trained here; take features or maps")
    if recipe.variance.sees == "all" or recipe.variance.joint:
        raise UsageError(
            "variance.sees: a head is attached to stages or lower, the statistics of the backbone's stages"
        )
    embedding = recipe.network.embedding
    plain = embedding.model_copy(update={"whiten": None if embedding.whiten == "auto" else embedding.whiten})
    check_embedding(backbone, recipe.network.model_copy(update={"embedding": plain}))


def check_again(run: Run, recipe: Recipe, about: BackboneRecord, job: AttachJob) -> None:
    """See that a run is of this recipe, backbone, data and seed, whatever way was chosen for its embedding.

    Raises:
        UsageError: it is of others.
    """
    found, data = run.record(), " ".join(job.locations)
    if recipe.network.embedding.whiten == "auto":
        whiten = found.recipe.network.embedding.whiten
        recipe = with_embedding(recipe, recipe.network.embedding.model_copy(update={"whiten": whiten}))
    check_same(run, found, found.model_copy(update={"recipe": recipe, "backbone": about, "seed": job.seed}))
    if found.data.location != data:
        raise UsageError(f"{run.path}: holds a run on {found.data.location}, not on {data}; name a new folder")


def settled(recipe: Recipe, cache: Cache, photographs: Photographs, progress: Progress) -> Recipe:
    """The recipe with the way that was chosen in the place of `whiten: auto`."""
    embedding = recipe.network.embedding
    if embedding.whiten != "auto":
        return recipe
    labels = None if photographs.labels is None else photographs.labels[cache.images]
    choice = choose(embedding, cache, photographs.held(cache.images), labels)
    figures = ", ".join(f"{name} {figure:.3f}" for name, figure in choice.figures.items())
    progress.say(f"embedding by {choice.measure} of the images held back: {figures}; taken: {choice.name}")
    return with_embedding(recipe, choice.settings)


def with_embedding(recipe: Recipe, embedding: EmbeddingSettings) -> Recipe:
    """The recipe with another embedding."""
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"embedding": embedding})})


def trained(
    backbone: Backbone, recipe: Recipe, cache: Cache, photographs: Photographs, seed: int, progress: Progress
) -> Embedder:
    """The network: embedding fitted and head trained on the images that are not held back."""
    begun, held_back = time.monotonic(), photographs.held(cache.images)
    torch.manual_seed(seed)
    encoder = Encoder(backbone, recipe.network)
    embedder = build_embedder(recipe, encoder).requires_grad_(False)
    layer, head = embedder.mean, embedder.log_variance
    assert isinstance(layer, EmbeddingLayer)
    assert isinstance(head, StatisticsHead)
    layer.set(moments_of(cache, ~held_back))
    own = cache.part(~held_back)
    means = torch.from_numpy(vectors_of(layer, own))
    head.requires_grad_(True)
    assert recipe.epochs is not None
    train_head(head, torch.from_numpy(own.inputs), means, recipe.variance, recipe.epochs, seed)
    progress.say(f"variance head trained on {len(own):,} images and their copies in {time.monotonic() - begun:.1f} s")
    return embedder.requires_grad_(False).eval()


def check_read(cache: Cache, photographs: Photographs, progress: Progress) -> None:
    """Say what could not be read, and refuse what too little of could be.

    Raises:
        UsageError: fewer than `LEAST_IMAGES` are left.
        VsslError: more than a tenth could not be read.
    """
    for name, reason in cache.failures[:SHOWN]:
        progress.say(f"skipped {name}: {reason}")
    if len(cache.failures) > MAX_UNREADABLE * len(photographs):
        raise too_many_unreadable(len(cache.failures), len(photographs), *cache.failures[0])
    if len(cache) < LEAST_IMAGES:
        raise UsageError(f"{len(cache)} images can be read, too few to attach by: at least {LEAST_IMAGES}")

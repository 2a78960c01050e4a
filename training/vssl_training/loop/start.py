"""What a run begins with: its recipe with numbers in the place of every `auto`, and the networks that weights give."""

from dataclasses import dataclass, field, replace

import torch

from vssl.errors import UsageError
from vssl_training.encoder.backbones import split_name
from vssl_training.encoder.embedder import build_encoder
from vssl_training.encoder.embedding import EmbeddingLayer
from vssl_training.encoder.pretrained import load_pretrained, settle
from vssl_training.encoder.prior import Prior, load_prior
from vssl_training.encoder.sources import Found, find_weights
from vssl_training.encoder.student import Encoder
from vssl_training.encoder.weights import initial_embedding, initial_encoder
from vssl_training.loop.job import StartingWeights
from vssl_training.recipe.sections import Recipe
from vssl_training.run.record import BackboneRecord, InitialWeights

HEADS = {"backbone", "mean", "log_variance"}
"""The parts of an encoder or embedder of ours, by which the weights of a run are known."""


@dataclass(frozen=True)
class Start:
    """What a run begins with; None for what starts at random.

    Attributes:
        recipe: with numbers in the place of every `auto` of its images.
        encoder: of the first phase, or the one that the second phase keeps.
        embedding: that the second phase keeps.
        prior: that the first phase learns from.
        init: the weights of the encoder.
        backbone: whose network it is, where they are another's.
        prior_backbone: whose network the prior is.
        notes: lines to say about all of it.
    """

    recipe: Recipe
    encoder: Encoder | None = None
    embedding: EmbeddingLayer | None = None
    prior: Prior | None = None
    init: InitialWeights | None = None
    backbone: BackboneRecord | None = None
    prior_backbone: BackboneRecord | None = None
    notes: list[str] = field(default_factory=list)


def start_of(recipe: Recipe, weights: StartingWeights, seed: int) -> Start:
    """Find and read what a run begins with.

    Raises:
        UsageError: the recipe wants weights and none are named; they are not there, or of another network.
    """
    if weights.init is None:
        if recipe.adapt is not None:
            raise UsageError(
                f"recipe {recipe.name}: takes pretrained weights further; name them: --init FILE, --init RUN, or "
                "--init pretrained to ask the hub of the backbone's library"
            )
        start = Start(recipe.model_copy(update={"image": recipe.image.settled()}))
    else:
        start = _of_weights(recipe, weights, seed)
    if recipe.distil is None or weights.variance_only:
        return start
    prior, about, notes = load_prior(start.recipe)
    return replace(start, prior=prior, prior_backbone=about, notes=[*start.notes, *notes])


def _of_weights(recipe: Recipe, weights: StartingWeights, seed: int) -> Start:
    kind, name = split_name(recipe.network.backbone)
    assert weights.init is not None
    found = find_weights(kind, name, weights.init)
    init = InitialWeights(location=str(weights.init), sha256=found.sha256)
    if not _is_ours(found):
        pretrained = load_pretrained(recipe, found.file)
        torch.manual_seed(seed)
        encoder = build_encoder(pretrained.recipe)
        encoder.backbone = pretrained.backbone
        notes = [*pretrained.notes, f"starts from {weights.init}; new heads: mean, log_variance"]
        return Start(pretrained.recipe, encoder, init=init, backbone=pretrained.about, notes=notes)
    recipe = settle(recipe, found)
    encoder, fresh = initial_encoder(recipe, found.file, seed)
    notes = [f"starts from {weights.init}" + (f"; new heads: {', '.join(fresh)}" if fresh else "")]
    if not weights.variance_only:
        return Start(recipe, encoder, init=init, notes=notes)
    if "mean" in fresh and not recipe.network.embedding.fitted:
        raise UsageError(f"{weights.init}: its mean head is not the one of this recipe")
    return Start(recipe, encoder, initial_embedding(recipe, found.file), init=init, notes=notes)


def _is_ours(found: Found) -> bool:
    return {key.split(".")[0] for key in found.tensors} >= HEADS or "network" in found.metadata

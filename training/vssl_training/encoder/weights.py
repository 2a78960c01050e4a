"""Networks from the weights of a run: the embedder of a finished one, and the start of a new one."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.embedder import Embedder, build_embedder, build_encoder
from vssl_training.encoder.embedding import EmbeddingLayer, build_embedding
from vssl_training.encoder.module_net import ModuleBackbone
from vssl_training.encoder.sources import weights_file
from vssl_training.encoder.student import Encoder
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run


def load_embedder(run: Run, module: nn.Module | None = None) -> Embedder:
    """The network of a finished run, ready to embed; around the `module` that it was attached to, if that is no
    backbone that a recipe can name.

    Raises:
        UsageError: there is no run, it is not finished, or it is of another module.
    """
    record = run.record()
    if not run.finished:
        raise UsageError(f"{run.path}: the run is not finished; run the same `vssl train` command again")
    embedder = build_embedder(record.recipe, None if module is None else encoder_around(module, record.recipe))
    try:
        embedder.load_state_dict(load_file(run.weights_path))
    except RuntimeError as error:
        raise UsageError(f"{run.path}: its weights are of another network: {error}") from error
    return embedder.eval()


def encoder_around(module: nn.Module, recipe: Recipe) -> Encoder:
    """A recipe's encoder with a module in the place of the backbone."""
    image = recipe.image.settled()
    backbone = ModuleBackbone(module, image.size, image.mean, image.std)
    return Encoder(backbone, recipe.network)


def initial_encoder(recipe: Recipe, path: Path, seed: int) -> tuple[Encoder, list[str]]:
    """A recipe's encoder with the weights of a run, of a checkpoint, or of the file of `vssl export --torch`.

    Returns:
        The encoder, and the names of the heads that start at random: of another size, or not in the file.

    Raises:
        UsageError: there are no such weights, or they are of another backbone.
    """
    weights = read_weights(weights_file(path))
    torch.manual_seed(seed)
    encoder = build_encoder(recipe)
    fresh = [name for name, module in encoder.named_children() if not load_part(module, name, weights)]
    if "mean" in fresh and load_part(encoder.mean, "mean.head", weights):  # of a run whose embedding is made of it
        fresh.remove("mean")
    if "backbone" in fresh:
        raise UsageError(f"{path}: its weights do not fit the backbone of this recipe ({recipe.network.backbone})")
    return encoder, fresh


def initial_embedding(recipe: Recipe, path: Path) -> EmbeddingLayer | None:
    """The fitted embedding of a finished run, where this recipe has one of its kind and size."""
    encoder = build_encoder(recipe)
    layer = build_embedding(encoder.backbone, recipe.network, encoder.mean)
    if not isinstance(layer, EmbeddingLayer):
        return None
    return layer if load_part(layer, "mean", read_weights(weights_file(path))) else None


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a run's `weights.safetensors`, of the student or embedder in a checkpoint of one, or of the
    backbone that `vssl export --torch` wrote, by the names that they have in a run.

    Raises:
        UsageError: it is none of these.
    """
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in many ways on what is not its own
        raise UsageError(f"{file}: no checkpoint of vssl: {error}") from error
    weights = checkpoint.get("student") or checkpoint.get("embedder") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict):
        raise UsageError(
            f"{file}: holds no weights of a run; name a run, its weights.safetensors or checkpoints/*.pt, "
            "or a file of vssl export --torch"
        )
    return weights


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            about = opened.metadata() or {}
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 — no mapping
    except SafetensorError as error:
        raise UsageError(f"{file}: no safetensors file: {error}") from error
    if "network" not in about:
        return weights
    prefix = "backbone." if json.loads(about["network"])["backbone"] == "small" else "backbone.net."
    return {prefix + name: value for name, value in weights.items()}


def load_part(module: nn.Module, name: str, weights: dict[str, Tensor]) -> bool:
    """Load the tensors under `name` into a module if they are the ones that it has."""
    own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    wanted = module.state_dict()
    if {key: value.shape for key, value in own.items()} != {key: value.shape for key, value in wanted.items()}:
        return False
    module.load_state_dict(own)
    return True

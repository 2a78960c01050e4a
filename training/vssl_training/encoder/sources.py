"""Where the weights of a backbone are: a file, a run, a library's cache on this machine, or its hub if it is asked."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor

from vssl.errors import UsageError
from vssl_training.encoder.hf_net import read_config, read_weights_of, weight_files
from vssl_training.encoder.timm_net import timm_config
from vssl_training.encoder.torchvision_net import check_name
from vssl_training.encoder.weight_files import file_sha256, read_tensors
from vssl_training.run.folder import Run

HUB = "pretrained"
"""The word that asks the hub of a model's library."""


@dataclass(frozen=True)
class Found:
    """Weights as they were found.

    Attributes:
        file: that they are in.
        tensors: by the names that they have there, in order.
        metadata: of a `.safetensors`.
        sha256: of the file.
        licence: of the weights, where the library names one for what came from its hub.
    """

    file: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str
    licence: str | None = None


def find_weights(kind: str, name: str, weights: str | Path | None) -> Found:
    """The weights that `weights` names for a model of a library, or those in the library's cache where it is None.

    Raises:
        UsageError: there are none, or the file is none of weights.
    """
    if weights is not None and str(weights) != HUB:
        return read_found(weights_file(Path(weights)))
    if kind == "timm":
        return _of_timm(name, ask=weights is not None)
    if kind == "torchvision":
        return _of_torchvision(name, ask=weights is not None)
    if kind == "hf":
        return _of_folder(Path(name))
    raise UsageError(f"network.backbone: {name} is a net of our own: name a run or a file of weights (--weights FILE)")


def read_found(file: Path, licence: str | None = None) -> Found:
    """Read a file of weights."""
    tensors, metadata = read_tensors(file)
    return Found(file, tensors, metadata, file_sha256(file), licence)


def weights_file(path: Path) -> Path:
    """The file of weights that a path means: itself, or the best one of a run.

    Raises:
        UsageError: there is none.
    """
    if path.is_file():
        return path
    run = Run(path)
    for file in (run.weights_path, run.good_path, run.checkpoint_path):
        if file.is_file():
            return file
    raise UsageError(f"{path}: neither a file of weights nor a run that holds one")


def _of_timm(name: str, ask: bool) -> Found:
    import timm

    cfg = timm_config(name)
    if cfg is None or not cfg.has_weights:
        raise UsageError(f"network.backbone: timm publishes no weights of {name}: name a file of them (--weights FILE)")
    file = published(name, partial(cached_by_timm, cfg), partial(timm.create_model, name, pretrained=True), ask)
    return read_found(file, cfg.license)


def _of_torchvision(name: str, ask: bool) -> Found:
    from torchvision.models import get_model_weights

    check_name(name)
    best = get_model_weights(name).DEFAULT
    return read_found(
        published(name, partial(downloaded, best.url), partial(best.get_state_dict, check_hash=True), ask)
    )


def _of_folder(folder: Path) -> Found:
    tensors = read_weights_of(folder, read_config(folder))
    return Found(folder, tensors, {}, file_sha256(*weight_files(folder)), licence_of(folder))


def licence_of(folder: Path) -> str | None:
    """The licence that a model's card names."""
    card = folder / "README.md"
    found = re.search(r"^license:\s*(\S+)", card.read_text(errors="replace"), re.MULTILINE) if card.is_file() else None
    return found[1] if found else None


def published(name: str, find: Callable[[], Path | None], download: Callable[[], object], ask: bool) -> Path:
    """The file of a model's published weights on this machine, downloaded before if that is asked for.

    Raises:
        UsageError: there is none.
    """
    file = find()
    if file is None and ask:
        try:
            download()
        except Exception as error:  # of the network, of the hub, of the disk
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise UsageError(
                f"network.backbone: the weights of {name} can't be had from their hub ({first}); name a file of them "
                "(--weights FILE)"
            ) from error
        file = find()
    if file is None:
        raise UsageError(
            f"network.backbone: no weights of {name} on this machine: name a file of them (--weights FILE), or have "
            f"them downloaded (--weights {HUB})"
        )
    return file


def cached_by_timm(cfg: Any) -> Path | None:  # noqa: ANN401 — timm's PretrainedCfg, untyped to us
    """The file of a timm model's weights in the caches of this machine; no network is asked."""
    from huggingface_hub import try_to_load_from_cache

    if cfg.hf_hub_id:
        repository, _, revision = cfg.hf_hub_id.partition("@")
        names = [cfg.hf_hub_filename] if cfg.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        load = partial(try_to_load_from_cache, repository, revision=revision or None)
        found = next((path for path in map(load, names) if isinstance(path, str)), None)
        if found is not None:
            return Path(found)
    return downloaded(cfg.url) if isinstance(cfg.url, str) else None


def downloaded(url: str) -> Path | None:
    """The file of a URL in torch's own cache."""
    file = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(url).path).name)
    return file if file.is_file() else None

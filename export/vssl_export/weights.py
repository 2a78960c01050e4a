"""The backbone's weights alone, for programs that know its architecture: `safetensors`, under timm's names."""

import json
from pathlib import Path

from safetensors.torch import save

from vssl.errors import UsageError
from vssl.files import atomic_write
from vssl_export.source import load
from vssl_training.encoder.backbones import split_name
from vssl_training.encoder.features import network_of


def write_weights(source: Path, file: Path) -> str:
    """Write the backbone of a run or a checkpoint; returns the network's class, or the expression for timm.

    Weights of a backbone of timm have the names that timm gives them, and no classifier is among them. The file's
    metadata say what the network is (`network`, as in the recipe) and what it takes: RGB of `size` × `size` pixels in
    0 … 1, less `mean`, over `std`; each a number, or three for red, green and blue.

    Raises:
        UsageError: there is nothing to export at `source` (see `load`), or `file` is a folder.
    """
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; name the file to write, such as {file / 'backbone.safetensors'}")
    trained = load(source)
    recipe, network = trained.record.recipe, network_of(trained.embedder.backbone)
    image = recipe.image.settled()
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    about = {
        "network": json.dumps(recipe.network.model_dump(mode="json")),
        "size": str(recipe.size),
        "mean": _told(image.mean),
        "std": _told(image.std),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as opened:
        opened.write(save(weights, about))
    if split_name(recipe.network.backbone)[0] != "timm":
        return f"{type(network).__module__}.{type(network).__qualname__}"
    size = f", img_size={recipe.size}" if hasattr(network, "pos_embed") else ""
    return f'timm.create_model("{recipe.network.backbone}", num_classes=0{size}, checkpoint_path="{file}")'


def _told(colours: tuple[float, float, float]) -> str:
    return json.dumps(colours[0] if len(set(colours)) == 1 else colours)

"""Vision models of Hugging Face's transformers as backbones, from a folder on this machine."""

import inspect
from collections.abc import Mapping
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone, Features
from vssl_training.encoder.modes import evaluating
from vssl_training.encoder.stages import as_map, nowhere
from vssl_training.encoder.weight_files import check_kind

LAYERS = {"ends": 4, "all": 8}
"""Layers whose maps are given, at equal distances, and the patches' embeddings beside `all`."""

NOT_OF_THE_NETWORK = ("architectures", "dtype", "id2label", "label2id", "transformers_version", "_name_or_path")


class HfNet(Backbone):
    """A vision model of transformers, at random.

    Of a ViT, `final` is the class token, or what the model pools, and the mean of the patches behind it; of others what
    the model pools. The maps are those of several layers, of a ViT each place scaled to mean 0 and variance 1, since
    layers have scales of their own.

    Args:
        config: of the model, as in its `config.json`.
        size: side of the images in pixels.
        stages: how many maps are given: see `LAYERS`.

    Raises:
        UsageError: transformers has no such model, it is none of images, or it does not take this size.
    """

    def __init__(self, config: Mapping[str, Any], size: int, stages: str = "ends") -> None:
        super().__init__()
        from transformers import AutoConfig

        fields = {**config, "output_hidden_states": True}
        if isinstance(fields.get("image_size"), int):
            fields["image_size"] = size
        try:
            known = AutoConfig.for_model(**fields)
            self.net = model_class(known)(known, **without_pooler(known))
        except UsageError:
            raise
        except Exception as error:  # a model's constructor refuses in any way it likes
            raise UsageError(f"network.backbone: transformers can't build it for {size} px: {error}") from error
        self.patches = (size // known.patch_size) ** 2 if isinstance(getattr(known, "patch_size", None), int) else 0
        try:
            with evaluating(self.net):
                answer: Any = nowhere(self.net, size)
        except Exception as error:
            raise UsageError(f"network.backbone: the model of transformers can't take {size} px: {error}") from error
        count, parts = len(answer.hidden_states), LAYERS[stages]
        every = count <= parts + 1
        self.layers = list(range(count)) if every else [round(i * (count - 1) / parts) for i in range(parts + 1)]
        if stages == "ends":
            self.layers = self.layers[-parts:]
        features = self.features_of(torch.empty(0), answer)
        self.features, self.channels = features.final.shape[1], tuple(each.shape[1] for each in features.maps)

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        return self.features_of(images, self.net(self.normalised(images)))

    def features_of(self, images: Tensor, answer: Any) -> Features:  # noqa: ANN401 — transformers' ModelOutput
        """What the model's answer to images says."""
        last, layers = answer.last_hidden_state, [answer.hidden_states[i] for i in self.layers]
        pooled = getattr(answer, "pooler_output", None)
        if last.ndim == 4:
            final = last.mean((2, 3)) if pooled is None else pooled.flatten(1)
            return Features(images, final, tuple(layers))
        before = max(0, last.shape[1] - self.patches)
        mean = last[:, before:].mean(1)
        token = pooled if pooled is not None else last[:, 0] if before else None
        final = mean if token is None else torch.cat([token, mean], 1)
        normed = [torch.nn.functional.layer_norm(each, each.shape[-1:]) for each in layers]
        return Features(images, final, tuple(as_map(each[:, before:]) for each in normed))

    def converted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights with their table of positions resampled for this size, as transformers does."""
        own = self.net.state_dict()
        return {
            key: resampled(value, own[key].shape)
            if "position_embedding" in key and key in own and value.shape != own[key].shape
            else value
            for key, value in weights.items()
        }


def resampled(table: Tensor, shape: torch.Size) -> Tensor:
    """A table of positions of a square, [1, L, C] or [L, C], resampled to another; what stands before it is kept."""
    rows, width = table.reshape(-1, table.shape[-1]), table.shape[-1]
    length = shape[-2]
    for before in range(2):  # a class token or none; registers have no position
        old, new = round((len(rows) - before) ** 0.5), round((length - before) ** 0.5)
        if old**2 + before == len(rows) and new**2 + before == length:
            square = rows[before:].reshape(1, old, old, width).permute(0, 3, 1, 2).float()
            drawn = torch.nn.functional.interpolate(square, (new, new), mode="bicubic", align_corners=False)
            patches = drawn.permute(0, 2, 3, 1).reshape(-1, width).to(table.dtype)
            return torch.cat([rows[:before], patches]).reshape(shape)
    return table


def model_class(config: Any) -> Any:  # noqa: ANN401 — of transformers, whose types say little
    """The class of a configuration's model.

    Raises:
        UsageError: it has none for features.
    """
    from transformers import MODEL_MAPPING

    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError:
        raise UsageError(f"network.backbone: transformers' {config.model_type} gives no features of images") from None
    return found[0] if isinstance(found, (tuple, list)) else found


def without_pooler(config: Any) -> dict[str, bool]:  # noqa: ANN401 — of transformers, whose types say little
    """Arguments by which a ViT comes without the pooler of its classifier, which few weights hold."""
    return (
        {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model_class(config)).parameters else {}
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a folder's vision model, or of the vision part of its model, as plain values.

    Raises:
        UsageError: transformers is not installed, or the folder holds no model that it knows.
    """
    try:
        from transformers import AutoConfig
    except ModuleNotFoundError as error:
        raise UsageError(f"network.backbone: hf: needs {error.name}: pip install 'vssl[hf]'") from error
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"network.backbone: {folder}: no folder of a model of Hugging Face (config.json is missing); name the one "
            "that `hf download NAME --local-dir FOLDER` writes"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of JSON, of unknown models, of code that it would have to run
        raise UsageError(f"network.backbone: {folder / 'config.json'}: {str(error).splitlines()[0]}") from error
    config = getattr(config, "vision_config", config)
    if not hasattr(config, "num_channels"):
        raise UsageError(f"network.backbone: {folder}: holds {config.model_type}, which is no model of images")
    return {key: value for key, value in config.to_dict().items() if key not in NOT_OF_THE_NETWORK}


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights, in order.

    Raises:
        UsageError: there are none, or one is something else.
    """
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise UsageError(f"network.backbone: {folder}: no weights (model.safetensors or pytorch_model.bin)")
    for file in files:
        check_kind(file)
    return files


def read_weights_of(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a folder's vision model under the names that transformers gives them.

    Raises:
        UsageError: the files are damaged, or lack some of them.
    """
    from transformers import AutoConfig
    from transformers.utils.logging import get_verbosity, set_verbosity

    known = AutoConfig.for_model(**config)
    weight_files(folder)
    loud = get_verbosity()
    set_verbosity(ERROR)
    try:
        net, about = model_class(known).from_pretrained(
            folder, config=known, local_files_only=True, output_loading_info=True, **without_pooler(known)
        )
    except Exception as error:  # of damaged files, of shapes, of pickles with code
        raise UsageError(f"{folder}: its weights can't be read: {str(error).splitlines()[0]}") from error
    finally:
        set_verbosity(loud)
    if missing := sorted(about["missing_keys"]):
        raise UsageError(
            f"{folder}: {len(missing)} of {len(net.state_dict())} tensors are missing ({', '.join(missing[:3])}, …); "
            "download the model's files again"
        )
    return dict(net.state_dict())

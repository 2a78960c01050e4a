"""What a pretrained model wants to see, by its own configuration: values for what is `auto` in a recipe's `image`."""

import json
from collections.abc import Mapping
from math import floor
from pathlib import Path
from typing import Any

from vssl.errors import UsageError
from vssl_training.encoder.timm_net import timm_config
from vssl_training.recipe.sections import ImageSettings
from vssl_training.run.folder import Run

FITS = {"center": "crop-round", "squash": "squash", "border": "pad"}
"""timm's words for how a picture becomes a square."""


def by_library(kind: str, name: str, image: ImageSettings) -> dict[str, Any]:
    """What a library says of a model of its own."""
    if kind == "timm":
        return by_timm(name, image)
    if kind == "torchvision":
        return by_torchvision(name)
    return by_transformers(Path(name)) if kind == "hf" else {}


def by_timm(name: str, image: ImageSettings) -> dict[str, Any]:
    """What timm's configuration of a model says; the crop for the size that is asked for."""
    cfg = timm_config(name)
    if cfg is None:
        return {}
    size = cfg.input_size[-1] if image.size == "auto" else image.size
    # timm resizes to whole pixels before it crops: 0.875 of 160 is really 160 of 182.
    known = {"size": size, "crop": min(1.0, size / floor(size / cfg.crop_pct)), "mean": cfg.mean, "std": cfg.std}
    if cfg.interpolation in ("bilinear", "bicubic"):
        known["interpolation"] = cfg.interpolation
    if cfg.crop_mode in FITS:
        known["fit"] = FITS[cfg.crop_mode]
    return known


def by_torchvision(name: str) -> dict[str, Any]:
    """What torchvision's transform for a model's best weights does."""
    from torchvision.models import get_model_weights

    known = get_model_weights(name).DEFAULT.transforms()
    return {
        "size": known.crop_size[0],
        "crop": known.crop_size[0] / known.resize_size[0],
        "fit": "crop-round",
        "interpolation": known.interpolation.value,
        "mean": known.mean,
        "std": known.std,
    }


def by_transformers(folder: Path) -> dict[str, Any]:
    """What a folder's `preprocessor_config.json` says.

    Raises:
        UsageError: it is damaged.
    """
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return {}
    try:
        told = json.loads(file.read_text())
        told = told.get("image_processor", told)
        size, cropped = _sides(told.get("size")), _sides(told.get("crop_size"))
        known: dict[str, Any] = {"interpolation": RESAMPLING[told.get("resample", 3)]}
        if told.get("do_center_crop", False) and cropped:
            known |= {"size": cropped[0], "crop": min(1.0, cropped[0] / size[0]) if size else 1.0}
        elif size:
            known |= {"size": size[0], "crop": 1.0}
        known["fit"] = "squash" if isinstance(told.get("size"), dict) and "height" in told["size"] else "crop-floor"
        # The model's images are (pixel · factor − mean) / std; ours are in 0 … 1.
        scale = 255 * told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 255.0
        plain = not told.get("do_normalize", True)
        mean, std = ([0.0] * 3, [1.0] * 3) if plain else (told["image_mean"], told["image_std"])
        return known | {"mean": [value / scale for value in mean], "std": [value / scale for value in std]}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file}: damaged, or not understood: {error!r}; name image.mean and the others") from error


RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which the file has."""


def _sides(size: object) -> list[int]:
    """Sides in pixels of any of the forms that the file has: a number, or names of one or two."""
    return [size] if isinstance(size, int) else list(size.values()) if isinstance(size, dict) else []


def by_file(file: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """What a run says whose weights these are, or the file of `vssl export --torch`; None for others' files."""
    for folder in (file, file.parent, file.parent.parent):
        if (folder / "weights.safetensors" == file or folder / "checkpoints" == file.parent) and (
            run := Run(folder)
        ).record_path.is_file():
            return run.record().recipe.image.settled().model_dump(exclude={"classes", "decoder"})
    if "network" not in metadata:
        return None
    mean, std = (json.loads(metadata[key]) for key in ("mean", "std"))
    # Files of version 0.2.0 have one number for all three colours.
    mean, std = (value if isinstance(value, list) else [value] * 3 for value in (mean, std))
    return {"size": int(metadata["size"]), "mean": mean, "std": std}

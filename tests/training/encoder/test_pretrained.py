"""Weights that others trained: found, fitted by name, rule or order, refused in a line; and what `auto` becomes."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data.config import resolve_model_data_config
from torch import Tensor

from vssl.errors import UsageError
from vssl_training.encoder.backbones import build_backbone
from vssl_training.encoder.pretrained import load_pretrained
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe


def recipe_of(backbone: str, *assignments: str) -> Recipe:
    automatic = [f"image.{key}=auto" for key in ("size", "crop", "mean", "std")]
    named = [f"network.backbone={backbone}", "network.embedding={}"]
    return override(load_recipe("quick"), [*automatic, *named, *assignments])


def published_config(name: str) -> Any:
    return timm.get_pretrained_cfg(name)


def published(name: str) -> Any:
    """A model of timm with its classifier, its weights and statistics at random."""
    torch.manual_seed(1)
    net: Any = timm.create_model(name, num_classes=7)
    for key, buffer in net.named_buffers():
        if buffer.is_floating_point() and "running" in key:
            buffer.uniform_(0.5, 1.5)
    return net.eval()


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in their order, under names of nobody's."""
    return {f"_layer{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(weights.items())}


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("form", ["plain", "prefixed", "wrapped", "safetensors", "renamed"])
def test_features_are_those_of_the_published_model(name: str, form: str, tmp_path: Path) -> None:
    net, file = published(name), tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    weights = net.state_dict()
    if form == "safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, file)
    elif form == "wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in weights.items()}}, file)
    elif form == "prefixed":
        torch.save({f"model.backbone.{key}": value for key, value in weights.items()}, file)
    else:
        torch.save(renamed(weights) if form == "renamed" else weights, file)
    loaded = load_pretrained(recipe_of(name, "image.size=96"), file)
    config = resolve_model_data_config(net)
    images = torch.rand(2, 3, 96, 96)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    reference: Any = (
        timm.create_model(
            name,
            pretrained=True,
            num_classes=0,
            img_size=96,
            pretrained_cfg_overlay={"state_dict": weights, "num_classes": 7},
        )
        if name == "test_vit"
        else net
    )
    with torch.no_grad():
        features = reference.forward_head(reference.forward_features((images - mean) / std), pre_logits=True)
        ours = loaded.backbone(images).final
    torch.testing.assert_close(ours, features)
    assert (loaded.recipe.size, loaded.recipe.image.std) == (96, config["std"])
    assert len(loaded.notes) == (form == "renamed")


def test_auto_is_what_the_model_knows_or_else_what_it_was() -> None:
    scratch = recipe_of("tf_efficientnet_lite0").image.settled()
    assert (scratch.size, scratch.crop, scratch.mean, scratch.std) == (32, 1.0, (0.5,) * 3, (0.25,) * 3)


def test_what_a_recipe_names_stays(tmp_path: Path) -> None:
    torch.save(published("test_resnet").state_dict(), tmp_path / "w.pth")
    named = recipe_of("test_resnet", "image.mean=[0.1, 0.2, 0.3]", "image.crop=0.5")
    image = load_pretrained(named, tmp_path / "w.pth").recipe.image
    assert (image.size, image.mean, image.crop) == (160, (0.1, 0.2, 0.3), 0.5)
    assert image.std == published_config("test_resnet").std


class Trap:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch /tmp/vssl-trap-was-sprung",)


def bad_file(kind: str, path: Path) -> Path:
    net = published("test_resnet")
    weights = net.state_dict()
    if kind == "half":
        weights = dict(list(weights.items())[::2])
    elif kind == "another net":
        weights = published("test_convnext").state_dict()
    elif kind == "wider":
        weights["layer1.0.conv1.weight"] = torch.zeros(99, 3, 3, 3)
    elif kind == "deeper":
        weights["layer4.9.conv1.weight"] = torch.zeros(3)
    torch.save({"code": [Trap()], "empty": {"epoch": 3}}.get(kind, weights), path)
    texts = {
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "html": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
        "nothing": b"",
        "noise": bytes(range(256)),
    }
    path.write_bytes(texts.get(kind, path.read_bytes()))
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:10_000])
    return path


@pytest.mark.parametrize(
    ("suffix", "kind", "said"),
    [
        (".pth", "half", r"tensors are missing \(.*(conv|bn)"),
        (".pth", "another net", "not the weights of test_resnet: .* are missing"),
        (".pth", "wider", r"1 have another shape \(layer1.0.conv1.weight is \[99, 3, 3, 3\], test_resnet has"),
        (".pth", "deeper", "1 are of no part of test_resnet .layer4.9.conv1.weight"),
        (".pth", "code", "holds code .*system.*none of it was run"),
        (".pth", "empty", "holds no weights"),
        (".pth", "lfs", "a pointer of Git LFS.*git lfs pull"),
        (".pth", "html", "a page of HTML"),
        (".pth", "nothing", "the file is empty"),
        (".pth", "noise", "or damaged"),
        (".pth", "cut", "or damaged"),
        (".safetensors", "lfs", "a pointer of Git LFS.*git lfs pull"),
        (".safetensors", "html", "a page of HTML"),
        (".safetensors", "nothing", "the file is empty"),
        (".safetensors", "noise", "or damaged"),
    ],
)
def test_what_is_not_the_models_weights_is_refused_in_a_line(suffix: str, kind: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_pretrained(recipe_of("test_resnet"), bad_file(kind, tmp_path / f"w{suffix}"))
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/vssl-trap-was-sprung").exists()


def test_without_weights_both_ways_to_them_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"no weights of resnet18 on this machine: .*--weights FILE.*--weights pretr"):
        load_pretrained(recipe_of("resnet18"), None)
    with pytest.raises(UsageError, match="neither a file of weights nor a run"):
        load_pretrained(recipe_of("resnet18"), tmp_path / "missing")


def test_weights_in_the_librarys_cache_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cfg = published_config("test_resnet")
    folder = tmp_path / f"models--{cfg.hf_hub_id.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(published("test_resnet").state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    loaded = load_pretrained(recipe_of("test_resnet"), None)
    assert (loaded.about.source, loaded.about.architecture) == ("timm", "test_resnet")
    assert loaded.about.weights_sha256
    assert not loaded.notes


def test_the_backbone_of_a_record_is_built_from_it_alone(tmp_path: Path) -> None:
    torch.save(published("test_resnet").state_dict(), tmp_path / "w.pth")
    loaded = load_pretrained(recipe_of("test_resnet", "image.size=64"), tmp_path / "w.pth")
    again = build_backbone(Recipe.model_validate(loaded.recipe.model_dump(mode="json"))).eval()
    again.load_state_dict(loaded.backbone.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(images).final, loaded.backbone(images).final, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("resnet81", "neither small nor a model of timm: resnet81; the nearest are (resnet.*, ){4}"),
        ("resnet18.bogus", "timm publishes no weights resnet18.bogus; there are .*resnet18.a1_in1k"),
        ("torchvision:resnet81", "torchvision has no model resnet81; the nearest are (.*, ){4}"),
        ("keras:resnet50", "write NAME .of timm., torchvision:NAME or hf:FOLDER"),
        ("small", "a net of our own"),
        ("efficientnet_lite1", "timm publishes no weights of efficientnet_lite1"),
    ],
)
def test_a_backbone_that_nobody_knows_is_refused(backbone: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_pretrained(recipe_of(backbone), None)


def test_torchvisions_weights_are_loaded_by_its_names(tmp_path: Path) -> None:
    from torchvision.models import get_model

    torch.manual_seed(3)
    net = get_model("resnet18").eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    loaded = load_pretrained(recipe_of("torchvision:resnet18", "image.size=64"), tmp_path / "w.pth")
    image = loaded.recipe.image.settled()
    assert (image.crop, image.fit, image.interpolation) == (224 / 256, "crop-round", "bilinear")
    images = torch.rand(2, 3, 64, 64)
    net.fc = torch.nn.Identity()
    pixels = (images - torch.tensor(image.mean)[:, None, None]) / torch.tensor(image.std)[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.backbone(images).final, net(pixels))


def test_weights_of_a_run_bring_its_preprocessing(finished_run: Path, tmp_path: Path) -> None:
    from vssl_export.weights import write_weights
    from vssl_training.encoder.weights import load_embedder
    from vssl_training.run.folder import Run

    record = Run(finished_run).record()
    write_weights(finished_run, tmp_path / "backbone.safetensors")
    small = [f"network.{key}={getattr(record.recipe.network, key)}" for key in ("width", "depth", "pool")]
    images = torch.rand(2, 3, record.recipe.size, record.recipe.size)
    expected = load_embedder(Run(finished_run)).backbone(images).final
    for weights in (finished_run, Run(finished_run).weights_path, tmp_path / "backbone.safetensors"):
        loaded = load_pretrained(recipe_of("small", *small), weights)
        assert loaded.recipe.image.settled().std == (0.25,) * 3
        assert loaded.recipe.size == record.recipe.size
        torch.testing.assert_close(loaded.backbone(images).final, expected)

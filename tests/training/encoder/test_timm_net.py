"""Backbones: timm's models and our own say what they declare, and what can't be built is refused in one line."""

import pytest
import torch
from torch import nn

from vssl.errors import UsageError
from vssl_training.encoder.embedder import build_embedder, check_network
from vssl_training.encoder.small_net import SmallNet
from vssl_training.encoder.timm_net import TimmNet
from vssl_training.recipe.reading import load_recipe, override, recipe_names


@pytest.mark.parametrize(
    ("name", "size", "stem"),
    [
        ("resnet18", 32, True),
        ("resnet50", 64, False),
        ("vit_small_patch16_224", 32, False),
        ("convnext_tiny", 32, False),
        ("mobilenetv3_small_100", 64, False),
    ],
)
def test_timms_models_have_the_declared_sizes(name: str, size: int, stem: bool) -> None:
    with torch.device("meta"):
        net = TimmNet(name, size, stem).eval()
        features = net(torch.rand(2, 3, size, size))
    assert features.final.shape == (2, net.features)
    assert features.with_statistics().shape == (2, net.features_with_statistics)
    assert len(features.maps) == len(net.channels) <= 5


def test_a_cifar_stem_keeps_the_resolution() -> None:
    with torch.device("meta"):
        net = TimmNet("resnet18", 32, cifar_stem=True).eval()
        features = net(torch.rand(2, 3, 32, 32))
    assert [stage.shape[-1] for stage in features.maps] == [32, 32, 16, 8, 4]


def test_final_features_are_what_timms_classifier_sees() -> None:
    import timm

    torch.manual_seed(0)
    net = TimmNet("resnet10t", 32).eval()
    reference = timm.create_model("resnet10t", num_classes=0).eval()
    reference.load_state_dict(net.net.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net(images).final, reference((images - 0.5) * 4))


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["network.backbone=resnet81"], "neither small nor a model of timm: resnet81; the nearest are (resnet.*, ){4}"),
        (["network.backbone=convnext_tiny", "network.cifar_stem=true"], "cifar_stem: is for ResNets"),
        (["network.backbone=vit_tiny_patch16_224"], "can.t take 24 px"),
        (["network.backbone=cait_xxs24_224", "views.small_crops.count=2"], "timm can.t build cait_xxs24_224"),
    ],
)
def test_what_cannot_be_built_is_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_network(override(load_recipe("quick"), assignments))


@pytest.mark.parametrize("name", recipe_names())
def test_the_networks_of_every_recipe_can_be_built(name: str) -> None:
    recipe = load_recipe(name)
    chosen = ["network.embedding.whiten=null"] if recipe.network.embedding.whiten == "auto" else []
    check_network(override(recipe, chosen))  # attach chooses by the photographs


def test_the_maps_of_a_vit_are_normed() -> None:
    net = TimmNet("vit_tiny_patch16_224", 32)
    with torch.no_grad():
        last = net(torch.rand(2, 3, 32, 32)).maps[-1]
    # LayerNorm is fresh: weight 1, bias 0.
    torch.testing.assert_close(last.mean(1), torch.zeros(2, 2, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(last.std(1, correction=0), torch.ones(2, 2, 2), atol=1e-3, rtol=0)


def test_depth_and_pool_of_the_small_net() -> None:
    net = SmallNet(4, depth=3, pool=1)
    assert net(torch.rand(2, 3, 32, 32)).final.shape == (2, net.features) == (2, 16)
    assert sum(isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) for module in net.modules()) == 18


def test_a_joint_head_answers_on_the_scale_of_the_embedding() -> None:
    recipe = override(load_recipe("quick"), ["network.embedding={of: mean}", "variance.joint=true"])
    embedder = build_embedder(recipe).eval()
    nn.init.normal_(embedder.log_variance.net[-1].weight, std=0.1)  # type: ignore[arg-type]
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        features = embedder.backbone(images.permute(0, 3, 1, 2) / 255).final
        log_variance = embedder.log_variance(features)
        _, variance, _ = embedder(images)
    torch.testing.assert_close(variance, log_variance.exp() / log_variance.shape[1])

"""The maps of every stage: by hooks, in any network, in a copy of it, and in ONNX."""

import copy
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone
from vssl_training.encoder.module_net import ModuleBackbone
from vssl_training.encoder.timm_net import TimmNet
from vssl_training.encoder.torchvision_net import TorchvisionNet


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("tf_efficientnet_lite0", (32, 16, 24, 40, 80, 112, 192, 320, 1280)),
        ("resnet18", (64, 64, 128, 256, 512)),
        ("convnext_tiny", (96, 96, 192, 384, 768)),
        ("vit_small_patch16_224", (384,) * 8),
        ("swin_tiny_patch4_window7_224", (96, 96, 192, 384, 768)),
    ],
)
def test_stem_stages_and_the_heads_input_are_there(name: str, channels: tuple[int, ...]) -> None:
    with torch.device("meta"):
        net = TimmNet(name, 224, stages="all").eval()
        features = net(torch.rand(2, 3, 224, 224))
    assert net.channels == channels == tuple(each.shape[1] for each in features.maps)
    assert all(each.shape[2] == each.shape[3] for each in features.maps)
    assert features.final.shape == (2, net.features)


def test_they_are_what_the_network_computes_on_its_way() -> None:
    net = TimmNet("test_efficientnet", 64, stages="all").eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = net(images)
        body: Any = net.net
        x = body.bn1(body.conv_stem(net.normalised(images)))
        steps = [x]
        for block in body.blocks:
            steps.append(x := block(x))
        steps.append(body.bn2(body.conv_head(x)))
    assert len(features.maps) == len(steps)
    for ours, step in zip(features.maps, steps, strict=True):
        torch.testing.assert_close(ours, step)


def test_a_copy_of_a_network_keeps_its_own_maps() -> None:
    net = TimmNet("test_resnet", 64, stages="all").eval()
    other = copy.deepcopy(net)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, zeros, after = net(images), other(images), net(images)
    assert not zeros.maps[-1].any()
    assert before.maps[-1].any()
    torch.testing.assert_close(before.maps, after.maps, rtol=0, atol=0)


class Own(nn.Module):
    """Somebody's net, with a constant that is no buffer, and an answer beside its features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList([nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 12, 3, 2)])
        self.shift = torch.ones(1)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        for part in self.body:
            x = part(x + self.shift).relu()
        return x, "more"


def test_any_module_is_a_backbone() -> None:
    net = ModuleBackbone(Own(), 32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), stages=["body.0", "body.1"])
    assert (net.features, net.channels) == (12, (8, 12))
    images = torch.rand(2, 3, 32, 32)
    features = net(images)
    torch.testing.assert_close(features.final, features.maps[-1].relu().mean((2, 3)))
    first = net.net.get_submodule("body.0")((images - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / 0.2 + 1)
    torch.testing.assert_close(features.maps[0], first)


@pytest.mark.parametrize(
    ("module", "stages", "said"),
    [
        (Own(), ["neck"], "no module neck; it has body, body.0"),
        (nn.Linear(5, 5), None, "can't take 32 px"),
        (nn.Flatten(0), None, r"answers \[6144\]"),
    ],
)
def test_a_module_that_is_none_is_refused(module: nn.Module, stages: list[str] | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ModuleBackbone(module, 32, stages=stages)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vit_b_16", "convnext_tiny", "swin_t"])
def test_torchvisions_models_have_the_declared_sizes(name: str) -> None:
    with torch.device("meta"):
        net = TorchvisionNet(name, 64).eval()
        features = net(torch.rand(2, 3, 64, 64))
    assert 5 <= len(net.channels) <= 9
    assert net.channels == tuple(each.shape[1] for each in features.maps)
    assert features.final.shape == (2, net.features)


def backbone(name: str) -> Backbone:
    torch.manual_seed(0)
    return TimmNet(name, 64, stages="all").normalising((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)).eval()


@pytest.mark.parametrize(
    "name",
    ["test_efficientnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("test_vit", "test_convnext"))],
)
def test_onnx_gives_the_same_maps(name: str) -> None:
    class Statistics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = backbone(name)

        def forward(self, images: Tensor) -> Tensor:
            answer: Tensor = self.inner(images).with_statistics()
            return answer

    net, images = Statistics().eval(), torch.rand(2, 3, 64, 64)
    program = torch.onnx.export(net, (images,), dynamo=True, dynamic_shapes=({0: "n"},), verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    more = torch.rand(3, 3, 64, 64)
    ours = session.run(None, {session.get_inputs()[0].name: more.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(ours, net(more).numpy(), rtol=1e-3, atol=1e-4)

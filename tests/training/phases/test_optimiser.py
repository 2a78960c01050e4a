"""Optimisers: LARS by its formula, and what decays."""

from typing import Any

import pytest
import torch
from torch import nn

from vssl_training.phases.optimiser import build_optimiser, optimiser_step
from vssl_training.recipe.sections import OptimiserSettings

DECAY, RATE, ETA = 0.1, 0.5, 0.02


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2).double()


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_biases_and_norms_do_not_decay(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    module(torch.rand(2, 3, 8, 8))
    settings = OptimiserSettings.model_validate({"name": name, "weight_decay": DECAY})
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimiser(module, settings).param_groups
        for parameter in group["params"]
    }
    expected = {id(p): DECAY if p.ndim > 1 else 0.0 for p in module.parameters()}
    assert decays == expected


def test_a_vits_tokens_and_positions_do_not_decay() -> None:
    import timm

    net: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=1)
    optimiser = build_optimiser(nn.Sequential(net), OptimiserSettings(weight_decay=DECAY))
    decayed = {id(p) for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
    assert id(net.pos_embed) not in decayed
    assert id(net.cls_token) not in decayed
    assert id(net.blocks[0].mlp.fc1.weight) in decayed
    assert id(net.blocks[0].mlp.fc1.bias) not in decayed


@pytest.mark.parametrize("decay", [DECAY, 0.0])
def test_lars_is_the_papers_step_with_a_clipped_ratio(decay: float) -> None:
    """You et al. 2017: local rate η‖w‖ / (‖g‖ + λ‖w‖), here at most the global one; plain SGD for biases."""
    module = linear()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    settings = OptimiserSettings(name="lars", learning_rate=RATE, weight_decay=decay, eta=ETA)
    inputs = torch.arange(6.0).double().view(2, 3)
    optimiser_step(build_optimiser(module, settings), module(inputs).square().sum(), RATE)
    weight, gradient = before["weight"], module.weight.grad
    assert gradient is not None
    # timm adds its decay to the gradient in place, so the gradient is taken anew.
    again = linear()
    (gradient, bias_gradient) = torch.autograd.grad(again(inputs).square().sum(), [again.weight, again.bias])
    ratio = ETA * weight.norm() / (gradient.norm() + decay * weight.norm() + 1e-8)
    ratio = (ratio / RATE).clamp(max=1)
    torch.testing.assert_close(module.weight.detach(), weight - RATE * ratio * (gradient + decay * weight))
    torch.testing.assert_close(module.bias.detach(), before["bias"] - RATE * bias_gradient)


def test_sgd_and_adamw_are_torchs() -> None:
    for name, reference in (
        ("sgd", lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=RATE, betas=(0.9, 0.99), weight_decay=0)),
    ):
        ours, theirs = linear(), linear()
        settings = OptimiserSettings.model_validate({"name": name, "learning_rate": RATE, "weight_decay": 0})
        mine, torchs = build_optimiser(ours, settings), reference(theirs.parameters())
        inputs = torch.arange(6.0).double().view(2, 3) / 6
        for _ in range(3):
            optimiser_step(mine, ours(inputs).square().sum(), RATE)
            optimiser_step(torchs, theirs(inputs).square().sum(), RATE)
        torch.testing.assert_close(ours.weight, theirs.weight)

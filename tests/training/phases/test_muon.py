"""Muon: its steps by timm's, what it makes orthogonal, and which parameters take its steps."""

import copy
from functools import partial
from typing import Any

import pytest
import timm.optim.muon
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vssl.errors import UsageError
from vssl_training.encoder.embedder import build_encoder, build_predictor
from vssl_training.encoder.student import Student
from vssl_training.phases.muon import Muon, orthogonal
from vssl_training.phases.optimiser import build_optimiser, optimiser_step, set_rates
from vssl_training.recipe.reading import load_recipe, override

RATE, DECAY = 0.01, 0.1
MUON = ["optimiser.name=muon", "optimiser.learning_rate=0.004", "optimiser.muon_rate=0.008"]


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_an_orthogonal_matrix_has_its_own_directions_at_one_length(rows: int, columns: int, seed: int) -> None:
    numbers = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=numbers, dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonal(matrix) @ v.T
    torch.testing.assert_close(found, torch.diag(torch.diagonal(found)))
    seen = torch.diagonal(found)[values > values.max() / 100]
    assert ((seen > 0.6) & (seen < 1.3)).all()


def test_its_steps_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's class computes in bfloat16; here it is told to use float32, as ours does on a CPU."""
    exact = partial(timm.optim.muon.zeropower_via_newtonschulz, dtype=torch.float32)
    monkeypatch.setattr(timm.optim.muon, "zeropower_via_newtonschulz", exact)
    torch.manual_seed(0)
    ours = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    theirs = nn.Conv2d(3, 8, 3)
    theirs.load_state_dict(ours.state_dict())
    conv = {"orthogonal": True, "weight_decay": DECAY}
    mine = Muon([{"params": [ours.weight], **conv}, {"params": [ours.bias], "orthogonal": False}], RATE, (0.9, 0.99))
    groups: list[dict[str, Any]] = [
        {"params": [theirs.weight], "use_muon": True, "weight_decay": DECAY, "nesterov": True},
        {"params": [theirs.bias], "use_muon": False, "weight_decay": 0.01, "nesterov": False, "eps": 1e-8},
    ]
    peer = timm.optim.muon.Muon(
        groups, RATE, betas=(0.9, 0.99), adjust_lr_fn="match_rms_adamw", ns_coefficients="original"
    )
    for _ in range(4):
        images = torch.randn(2, 3, 8, 8)
        for net, optimiser in ((ours, mine), (theirs, peer)):
            optimiser.zero_grad()
            net(images).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def student(*settings: str) -> tuple[Student, Any]:
    recipe = override(load_recipe("quick"), [*MUON, *settings])
    return Student(build_encoder(recipe), build_predictor(recipe)), recipe.optimiser


@pytest.mark.parametrize("backbone", ["small", "convnext_atto", "vit_tiny_patch16_224"])
def test_matrices_of_the_backbone_take_its_steps_at_its_rate(backbone: str) -> None:
    trained, settings = student(f"network.backbone={backbone}", "network.embedding={of: mean}", "variance.joint=true")
    optimiser = build_optimiser(trained, settings)
    set_rates(optimiser, 0.002, 0.002)  # half of the recipe's
    names = {id(parameter): name for name, parameter in trained.named_parameters()}
    taken = {names[id(p)]: p for group in optimiser.param_groups if group["orthogonal"] for p in group["params"]}
    rates = {group["lr"] for group in optimiser.param_groups if group["orthogonal"]}
    assert taken
    assert rates == {0.004}
    assert all(name.startswith("encoder.backbone.") for name in taken)
    assert all(min(weight.shape[:2]) > 1 for weight in taken.values())
    left = {name: p for name, p in trained.named_parameters() if name not in taken}
    assert not [name for name, p in left.items() if "backbone" in name and p.ndim == 4 and p.shape[1] > 1]
    assert {group["lr"] for group in optimiser.param_groups if not group["orthogonal"]} == {0.002}


@pytest.mark.parametrize("fused", [False, True])
def test_it_goes_on_from_its_state(fused: bool) -> None:
    (first, settings), (second, _) = student(), student()
    second.load_state_dict(first.state_dict())
    images = torch.rand(4, 3, 16, 16)

    def step(net: Student, optimiser: torch.optim.Optimizer) -> None:
        optimiser_step(optimiser, torch.stack([v.square().sum() for v in net(images)[0]]).sum(), 0.004)

    before, after = build_optimiser(first, settings, fused), build_optimiser(second, settings, fused)
    step(first, before)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for net, optimiser in ((first, before), (second, after)):
        step(net, optimiser)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_pretrained_encoder_has_rates_of_its_own() -> None:
    with pytest.raises(UsageError, match=r"optimiser\.name is adamw, sgd or lars with adapt"):
        override(load_recipe("adapt"), ["optimiser.name=muon"])

"""Blocks that compute again what they would keep: the same steps, and less that is kept."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vssl.errors import UsageError
from vssl_training.encoder.backbones import build_backbone
from vssl_training.encoder.recomputing import recompute_blocks
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import load_recipe, override

TINY = ["network.dimension=16", "network.projector.hidden=16", "network.predictor.hidden=16", "optimiser.batch=8"]
TINY += ["teacher.momentum=0.996"]
ADAPT = ["network.backbone=test_efficientnet", "image.size=32", *TINY, "adapt.heads_first=0", "adapt.train=lora:2"]


def after_two_steps(name: str, settings: list[str]) -> tuple[dict[str, Tensor], list[float]]:
    """In double precision: what a student is, and its losses."""
    recipe = override(load_recipe(name), settings)
    pixels = torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    phase = EncoderTraining(recipe, pixels, 0, 4)
    views = phase.views
    phase.views = lambda step: [each.double() for each in views(step)]  # type: ignore[method-assign]
    assert phase.teacher is not None
    for module in (phase.student, phase.predictor, phase.teacher):
        module.double()
    losses = [phase.step(step)["loss"].item() for step in range(2)]
    return phase.trained.state_dict(), losses


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("quick", [*TINY, "network.width=8", "network.depth=2", "optimiser.accumulate=2", "optimiser.clip=0.1"]),
        ("quick", [*TINY, "network.backbone=test_efficientnet", "views.early=null"]),
        ("quick", [*TINY, "network.backbone=test_vit", "image.size=32", "views={size: null, early: null}"]),
        ("adapt", ADAPT),
    ],
)
def test_steps_are_the_same(name: str, settings: list[str]) -> None:
    """Weights, and BatchNorm's running statistics and counters, which a second forward pass must not move."""
    (kept, losses), (again, other) = (
        after_two_steps(name, [*settings, f"optimiser.recompute={switch}"]) for switch in ("false", "true")
    )
    assert other == pytest.approx(losses, rel=1e-9)
    for key, value in kept.items():
        torch.testing.assert_close(again[key], value, rtol=1e-6, atol=1e-9, msg=key)


def saved(work: Callable[[], Any]) -> int:
    """Values that autograd keeps of what `work` computes."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = work()
    assert held is not None
    return sum(kept.values())


def test_less_is_kept() -> None:
    net = build_backbone(override(load_recipe("quick"), ["network.width=8", "network.depth=3"]))
    images = torch.rand(16, 3, 32, 32)
    whole = saved(lambda: net(images).final)
    assert recompute_blocks(net) == 3
    assert saved(lambda: net(images).final) < whole / 2


def test_a_network_without_blocks_is_refused() -> None:
    plain = override(load_recipe("quick"), [*TINY, "network.backbone=torchvision:alexnet", "image.size=64"])
    recipe = override(plain, ["views={size: null, early: null}", "optimiser.recompute=true"])
    pixels = torch.zeros(8, 64, 64, 3, dtype=torch.uint8)
    with pytest.raises(UsageError, match="has no blocks"):
        EncoderTraining(recipe, pixels, 0, 4)

"""A pretrained encoder learns on with care: what is frozen, at what pace the rest learns, and when the run stops."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vssl.errors import UsageError
from vssl_training.encoder.adapters import merged
from vssl_training.encoder.embedder import build_encoder
from vssl_training.encoder.layers import layers_of
from vssl_training.encoder.modes import evaluating
from vssl_training.judging.online import OnlineJudge
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.health import forgetting, forgotten
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe

STEPS = 10
SETTINGS = [
    *("image.size=32", "network.backbone=test_efficientnet", "network.dimension=16"),
    *("network.projector.hidden=32", "network.predictor.hidden=32", "optimiser.batch=16", "adapt.heads_first=0.5"),
]


def recipe_of(*settings: str) -> Recipe:
    return override(load_recipe("adapt"), [*SETTINGS, *settings])


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randint(0, 256, (32, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def training(pixels: Tensor, *settings: str) -> EncoderTraining:
    recipe = recipe_of(*settings)
    torch.manual_seed(3)
    return EncoderTraining(recipe, pixels, 0, STEPS, encoder=build_encoder(recipe))


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of the parameters and buffers that differ."""
    old = before.state_dict()
    return {name for name, value in after.state_dict().items() if not torch.equal(value, old[name])}


def test_every_parameter_is_in_one_layer_in_order() -> None:
    import timm

    create: Any = timm.create_model
    for name in ("test_efficientnet", "test_vit", "test_resnet"):
        net: nn.Module = create(name, num_classes=0)
        layers = layers_of(net)
        assert [name for layer in layers for name in layer] == [name for name, _ in net.named_parameters()]
        assert len(layers) >= 3


def test_the_heads_learn_first_and_batchnorm_never(pixels: Tensor) -> None:
    phase = training(pixels)
    start = copy.deepcopy(phase.student)
    for step in range(STEPS // 2):
        phase.step(step)
    assert not any(name.startswith("backbone") for name in changed(start, phase.student))
    assert "mean.0.weight" in changed(start, phase.student)
    for step in range(STEPS // 2, STEPS):
        phase.step(step)
    norms = {
        f"{name}.{inner}"
        for name, module in phase.student.backbone.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for inner in module.state_dict()
    }
    after = {name.removeprefix("backbone.") for name in changed(start, phase.student) if name.startswith("backbone")}
    assert norms.isdisjoint(after)
    assert after == {name for name, _ in phase.student.backbone.named_parameters()} - norms


def test_layers_near_the_image_learn_more_slowly(pixels: Tensor) -> None:
    phase = training(pixels, "adapt.layer_decay=0.5")
    phase.step(STEPS - 2)
    rates = {id(p): group["lr"] for group in phase.optimiser.param_groups for p in group["params"]}
    found = dict(phase.student.backbone.named_parameters())
    names = [next(name for name in layer if found[name].ndim > 1) for layer in layers_of(phase.student.backbone)]
    each = [rates[id(found[name])] for name in names]
    assert each == pytest.approx([each[-1] * 0.5 ** (len(each) - 1 - i) for i in range(len(each))])
    head = rates[id(phase.student.mean[0].weight)]
    assert head > each[-1]


@pytest.mark.parametrize(("train", "layers"), [("heads", 0), ("last:2", 2)])
def test_the_last_layers_learn(pixels: Tensor, train: str, layers: int) -> None:
    phase = training(pixels, f"adapt.train={train}", "adapt.heads_first=0")
    start = copy.deepcopy(phase.student)
    for step in range(2):
        phase.step(step)
    every = layers_of(phase.student.backbone)
    allowed = {f"backbone.{name}" for layer in every[len(every) - layers :] for name in layer}
    found = {name for name in changed(start, phase.student) if name.startswith("backbone")}
    assert found <= allowed
    assert bool(found) == bool(layers)
    with pytest.raises(UsageError, match=r"has [0-9]+ layers"):
        training(pixels, "adapt.train=last:999")


def test_changes_of_low_rank_are_merged_and_go_on_from_a_checkpoint(pixels: Tensor) -> None:
    phase = training(pixels, "adapt.train=lora:2", "adapt.heads_first=0", "optimiser.learning_rate=0.01")
    start = copy.deepcopy(merged(phase.student))
    for step in range(3):
        phase.step(step)
    plain, images = phase.trained.eval(), torch.rand(4, 3, 32, 32)
    assert (
        plain.state_dict().keys() == build_encoder(phase.recipe).state_dict().keys() == phase.state()["student"].keys()
    )
    before = dict(start.backbone.named_parameters())
    moved = [w - before[name] for name, w in plain.backbone.named_parameters() if not torch.equal(w, before[name])]
    assert moved
    assert all(torch.linalg.matrix_rank(change.detach().flatten(1), rtol=1e-3) <= 2 for change in moved)
    with evaluating(phase.student):
        torch.testing.assert_close(plain(images).mean, phase.student(images).mean, atol=1e-4, rtol=1e-4)
    state = copy.deepcopy(phase.state())
    other = training(pixels, "adapt.train=lora:2", "adapt.heads_first=0", "optimiser.learning_rate=0.01")
    other.load_state(state)
    assert phase.step(3)["loss"] == other.step(3)["loss"]


def test_gradients_are_clipped_and_accumulated(pixels: Tensor) -> None:
    phase = training(pixels, "optimiser.clip=0.001", "optimiser.accumulate=3")
    assert [len(part[0]) for part in phase.parts(phase.views(0))] == [12, 12, 8]
    phase.step(0)
    gradients = [p.grad for group in phase.optimiser.param_groups for p in group["params"] if p.grad is not None]
    assert torch.stack([g.norm() for g in gradients]).norm() == pytest.approx(0.001, rel=1e-3)
    whole, split = (training(pixels, f"optimiser.accumulate={n}", "optimiser.clip=null") for n in (1, 2))
    views = whole.views(0)
    terms = [split.learn(part, 2) for part in split.parts(views)]
    expected = [whole.learn(part, 2) for part in split.parts(views)]
    for ours, theirs in zip(terms, expected, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"].item())


def test_forgetting_is_seen(pixels: Tensor) -> None:
    phase = training(pixels)
    judge = OnlineJudge(torch.cat([pixels, pixels.flip(1)]), None, 16, 0)
    figures = phase.judged(judge)
    assert figures["overlap"] == 1.0
    assert phase.warning(figures) is phase.alarm(figures) is None
    for parameter in phase.student.backbone.parameters():
        nn.init.normal_(parameter.data)
    figures = phase.judged(judge)
    assert figures["overlap"] < 0.5
    assert "pretrained" in (phase.warning(figures) or "")
    assert forgetting({"overlap": 0.49}) is not None
    assert forgotten({"overlap": 0.26}) is None
    assert "is forgotten" in (forgotten({"overlap": 0.24}) or "")


def test_a_fast_teacher_and_two_ways_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match=r"at least 0\.996"):
        recipe_of("teacher.momentum=0.99")
    with pytest.raises(UsageError, match="exclude each other"):
        recipe_of("distil={backbone: resnet18}")
    with pytest.raises(UsageError, match=r"adapt\.train"):
        recipe_of("adapt.train=last:0")

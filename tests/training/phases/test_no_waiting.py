"""No step makes the host wait for its device: it neither reads a value from it nor copies one there unpinned."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vssl_training.encoder.embedder import build_encoder
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import load_recipe, override, recipe_names
from vssl_training.run.numerics import Numerics

WAITING = {
    "_local_scalar_dense": "reads a number",
    "lift_fresh": "copies numbers of Python's",
    "linalg_inv_ex": "reads whether a matrix has an inverse",
    "linalg_eigh": "reads whether it succeeded",
    "masked_select": "reads how many there are",
    "nonzero": "reads how many there are",
    "unique": "reads how many there are",
}
"""What makes the host wait for a GPU. On a CPU the same operations are called, so a CPU tells."""

SMALL = [
    *("image.size=32", "optimiser.batch=4", "variance.batch=4", "network.dimension=16", "variance.hidden=8"),
    *("network.projector.hidden=16", "network.predictor.hidden=16", "optimiser.accumulate=2", "optimiser.clip=1"),
    "optimiser.recompute=true",
    *("views.size=24", "views.early=null", "views.small_crops.count=1", "views.solarise=[0, 0.2]"),
    *("variance.target=neighbour", "variance.bank=4"),
]
"""With each switch of a step on."""

RECIPES = [
    pytest.param(name, marks=pytest.mark.slow if name in ("adapt", "folder") else ())
    for name in recipe_names()
    if load_recipe(name).attach is None
]


class Watch(TorchDispatchMode):
    """Notes the operations that are called within."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.called.add(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})

    @property
    def waits(self) -> dict[str, str]:
        return {name: why for name, why in WAITING.items() if any(each.startswith(name) for each in self.called)}


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_each_recipe_waits_for_nothing(name: str) -> None:
    recipe = override(load_recipe(name), SMALL)
    if recipe.network.backbone == "small":
        recipe = override(recipe, ["network.width=8", "network.embedding.whiten.dimension=8"])
    elif recipe.network.embedding.whiten is not None:
        recipe = override(recipe, ["network.embedding.whiten.dimension=8"])
    if recipe.distil is not None:
        recipe = override(recipe, ["network.dimension=512", "distil.backbone=resnet18"])
    if recipe.adapt is not None:
        recipe = override(recipe, ["network.backbone=resnet18", "adapt.heads_first=0"])
    pixels = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    numerics = Numerics(bf16=recipe.network.backbone == "small", fused=True)  # bf16 is slow here in large nets
    encoder = None if recipe.adapt is None else build_encoder(recipe)
    first = EncoderTraining(recipe, pixels, 0, 10, numerics, encoder)
    first.prepare()
    second = VarianceTraining(recipe, first.trained, pixels, 0, 10, numerics).prepare()
    assert second.clean is not None
    first = EncoderTraining(recipe, pixels, 0, 10, numerics, encoder)
    for phase in (first, second):
        phase.step(0)  # copies what is kept
        with Watch() as watch:
            phase.step(1)
        assert {"mm", "addmm", "convolution"} & watch.called, phase.name
        assert not watch.waits, phase.name


def test_the_watch_sees_what_waits() -> None:
    with Watch() as watch:
        values = torch.tensor([1.0, 2.0])
        values[values > 1].sum().item()
        torch.linalg.inv(torch.eye(2))
    assert {"_local_scalar_dense", "lift_fresh", "linalg_inv_ex"} <= set(watch.waits)

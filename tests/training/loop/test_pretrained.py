"""Runs from pretrained weights: `adapt` and `distil` from a file to weights, interrupted and not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import FASHION
from vssl.errors import UsageError, VsslError
from vssl_training.encoder.weights import load_embedder
from vssl_training.loop import steps
from vssl_training.loop.job import StartingWeights, TrainingOptions
from vssl_training.loop.training import train
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget

SMALL = [
    *("image.size=32", "optimiser.batch=16", "variance.batch=16"),
    *("network.projector.hidden=32", "network.predictor.hidden=32"),
]
ADAPT = [*SMALL, "network.backbone=test_efficientnet", "network.dimension=16", "adapt.train=lora:2"]
DISTIL = [
    *(
        *SMALL,
        "network.backbone=small",
        "network.width=8",
        "network.dimension=256",
        "distil.backbone=test_efficientnet",
    ),
    "network.embedding.whiten.dimension=8",
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of timm's names, classifier and all."""
    import timm

    torch.manual_seed(5)
    create: Any = timm.create_model
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(create("test_efficientnet").state_dict(), file)
    return file


def recipe_of(name: str, weights: Path) -> tuple[Recipe, TrainingOptions]:
    if name == "adapt":
        return override(load_recipe("adapt"), ADAPT), TrainingOptions(start=StartingWeights(weights))
    return override(load_recipe("distil"), [*DISTIL, f"distil.weights={weights}"]), TrainingOptions()


@pytest.mark.parametrize("name", ["adapt", "distil"])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    name: str, weights: Path, fashion_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, options = recipe_of(name, weights)
    for out, stop in (("whole", 99), ("run", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(steps, "agreed", lambda done, wishes, stop=stop: [done == stop, *wishes[1:]])
            try:
                train(recipe, str(fashion_folder), tmp_path / out, Budget(steps=8), options=options)
            except KeyboardInterrupt:
                assert out == "run"
    train(recipe, str(fashion_folder), tmp_path / "run", Budget(steps=8), options=options)
    whole, again = (load_file(Run(tmp_path / out).weights_path) for out in ("whole", "run"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    record = Run(tmp_path / "run").record()
    about = record.backbone if name == "adapt" else record.prior
    assert about is not None
    assert (about.source, about.architecture) == ("timm", "test_efficientnet")
    assert not any("lora" in name for name in whole)
    load_embedder(Run(tmp_path / "run"))


def test_what_is_missing_is_named(weights: Path, fashion_folder: Path, tmp_path: Path) -> None:
    recipe, options = recipe_of("adapt", weights)
    with pytest.raises(UsageError, match="--init FILE"):
        train(recipe, str(fashion_folder), tmp_path / "run", Budget(steps=8))
    other = override(recipe, ["network.backbone=test_resnet"])
    with pytest.raises(UsageError, match="not the weights of test_resnet"):
        train(other, str(fashion_folder), tmp_path / "run", Budget(steps=8), options=options)
    recipe, options = recipe_of("distil", weights)
    with pytest.raises(UsageError, match=r"network\.dimension=256"):
        train(override(recipe, ["network.dimension=64"]), str(fashion_folder), tmp_path / "run", Budget(steps=8))
    assert not (tmp_path / "run").exists()


def test_a_run_that_forgets_stops_at_once(weights: Path, tmp_path: Path) -> None:
    recipe, options = recipe_of("adapt", weights)
    wild = ["adapt.train=all", "adapt.heads_first=0", "optimiser.learning_rate=1", "optimiser.clip=null"]
    with pytest.raises(VsslError, match="pretrained encoder is forgotten"):
        train(override(recipe, wild), f"{FASHION}::test", tmp_path / "run", Budget(steps=12), options=options)
    assert not Run(tmp_path / "run").finished

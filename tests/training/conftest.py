"""Small real data and small recipes for training tests."""

from pathlib import Path

import pytest

from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe

SMALL = [
    "network.width=8",
    "network.dimension=16",
    "network.embedding.whiten.dimension=16",
    "network.projector.hidden=32",
    "network.predictor.hidden=32",
    "teacher.momentum=0.985",
    "optimiser.batch=16",
    "variance.batch=16",
]


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """A recipe that trains in seconds."""
    return override(load_recipe("quick"), SMALL)


@pytest.fixture(scope="session")
def small_flags() -> list[str]:
    """The same as flags of `vssl train`."""
    return [part for assignment in SMALL for part in ("--set", assignment)]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, fashion_folder: Path, small_recipe: Recipe) -> Path:
    """A run of 40 steps on 40 real images."""
    from vssl_training.loop.training import train
    from vssl_training.run.record import Budget

    path = tmp_path_factory.mktemp("runs") / "run"
    train(small_recipe, str(fashion_folder), path, Budget(steps=40), seed=0)
    return path

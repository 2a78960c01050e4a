"""Pictures in colour as files, and a small pretrained network to attach to."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.core.samples import fashion
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe

FLAGS = [
    "network.backbone=small",
    "network.width=8",
    "image.size=32",
    "variance.hidden=8",
    "attach.copies=3",
    "epochs=10",
]


@pytest.fixture(scope="session")
def attach_recipe() -> Recipe:
    """The recipe `attach`, for the network of `finished_run`."""
    return override(load_recipe("attach"), FLAGS)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 real pictures, in colour, in two folders of 60."""
    folder = tmp_path_factory.mktemp("pictures")
    colours = np.random.default_rng(0).uniform(0.5, 1, (120, 1, 1, 3))
    for number, pixels in enumerate((fashion(120, 32) * colours).astype(np.uint8)):
        place = folder / ("one", "two")[number % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:03}.png")
    return folder

"""A network of one's own: attached to, exported, and refused where a recipe alone should build it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vssl_training
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.errors import UsageError
from vssl_export.bundle_writer import ExportOptions, export_run
from vssl_training.encoder.embedder import embeddings_of
from vssl_training.encoder.weights import load_embedder
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run.folder import Run


class Own(nn.Module):
    """Two convolutions of someone who has never heard of us."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 24, 3, 2, 1), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, 24]."""
        features: Tensor = self.second(self.first(images)).mean((2, 3))
        return features


def test_a_module_of_ones_own_becomes_a_bundle(pictures: Path, tmp_path: Path) -> None:
    recipe = override(load_recipe("attach"), ["attach.copies=2", "epochs=3", "variance.hidden=8"])
    half = (0.5, 0.5, 0.5)
    module = Own()
    vssl_training.attach(module, pictures, tmp_path / "run", size=32, mean=half, std=half, recipe=recipe)
    run = Run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"Own is a network of another program"):
        load_embedder(run)
    manifest = export_run(run.path, tmp_path / "bundle", "own", "1", ExportOptions(module=Own()))
    expected = embeddings_of(load_embedder(run, module), run.sample())
    answer = Engine(open_bundle(tmp_path / "bundle"))(run.sample())
    np.testing.assert_allclose(answer.embedding, expected.embedding, atol=1e-5)
    assert manifest.backbone is not None
    assert manifest.normalisation is not None
    assert (manifest.backbone.source, manifest.normalisation.mean) == ("module", half)
    assert manifest.preprocessing.size == 32

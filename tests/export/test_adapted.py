"""A run that changed a pretrained network at low rank is exported as that network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vssl.bundle.reading import open_bundle
from vssl_export.bundle_writer import export_run
from vssl_training.loop.job import StartingWeights, TrainingOptions
from vssl_training.loop.training import train
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget

SETTINGS = [
    *("image.size=32", "optimiser.batch=16", "variance.batch=16", "network.backbone=test_efficientnet"),
    *("network.dimension=16", "network.projector.hidden=32", "network.predictor.hidden=32", "adapt.train=lora:2"),
]


@pytest.mark.slow
def test_changes_of_low_rank_are_in_the_bundle(fashion_folder: Path, tmp_path: Path) -> None:
    """`export_run` compares ONNX Runtime with torch and refuses what differs; of a checkpoint likewise."""
    import timm

    torch.manual_seed(5)
    create: Any = timm.create_model
    net = create("test_efficientnet")
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    recipe = override(load_recipe("adapt"), SETTINGS)
    options = TrainingOptions(start=StartingWeights(tmp_path / "net.safetensors"))
    run = Run(tmp_path / "run")
    train(recipe, str(fashion_folder), run.path, Budget(steps=20), options=options)
    for number, source in enumerate((run.path, run.good_path)):
        export_run(source, tmp_path / f"bundle{number}", "adapted", "1")
        manifest = open_bundle(tmp_path / f"bundle{number}").manifest
        assert manifest.outputs.dimension == (net.num_features if number == 0 else 16)
        assert manifest.models["fp32"].parity.embedding < 1e-4

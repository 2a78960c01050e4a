"""A run that changed a pretrained network at low rank is exported as that network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vssl_export.bundle_writer import export_run
from vssl_training.loop import steps
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
def test_changes_of_low_rank_are_in_the_bundle(
    fashion_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`export_run` compares ONNX Runtime with torch and refuses what differs; of a checkpoint likewise."""
    import timm

    torch.manual_seed(5)
    create: Any = timm.create_model
    net = create("test_efficientnet")
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    recipe = override(load_recipe("adapt"), SETTINGS)
    options = TrainingOptions(start=StartingWeights(tmp_path / "net.safetensors"))
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(steps, "agreed", lambda done, wishes: [done == 10, *wishes[1:]])
        with pytest.raises(KeyboardInterrupt):
            train(recipe, str(fashion_folder), run.path, Budget(steps=20), options=options)
    half = export_run(run.checkpoint_path, tmp_path / "half", "adapted", "1")
    train(recipe, str(fashion_folder), run.path, Budget(steps=20), options=options)
    whole = export_run(run.path, tmp_path / "whole", "adapted", "1")
    for manifest, dimension in ((half, 16), (whole, net.num_features)):
        assert manifest.outputs.dimension == dimension
        assert manifest.models["fp32"].parity.embedding < 1e-4

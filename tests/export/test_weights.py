"""`--torch`: the backbone's weights, loaded by timm and by our own network, give the backbone's features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.command_line import vssl_here
from tests.core.samples import fashion
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.errors import UsageError
from vssl_export.bundle_writer import ExportOptions, export_run
from vssl_export.weights import write_weights
from vssl_training.encoder.embedder import build_encoder
from vssl_training.encoder.weights import load_embedder
from vssl_training.loop.training import train
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import NetworkSettings
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget

TINY = [
    "views.size=32",
    "network.embedding={of: mean}",
    "network.dimension=8",
    "network.projector.hidden=16",
    "optimiser.batch=8",
    "variance.batch=8",
]


@pytest.fixture(scope="module", params=[pytest.param("test_resnet", marks=pytest.mark.slow), "test_vit"])
def timm_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fashion_folder: Path) -> Path:
    """Two steps of a tiny backbone of timm on images of 32 pixels."""
    recipe = override(load_recipe("quick"), [*TINY, f"network.backbone={request.param}"])
    path = tmp_path_factory.mktemp("timm") / "run"
    train(recipe, str(fashion_folder), path, Budget(steps=2), seed=0)
    return path


def pixels(values: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Float images [N, 3, S, S] as the file's metadata say the network takes them."""
    return (torch.from_numpy(values).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25


@torch.no_grad()
def test_timm_loads_the_weights_and_every_precision_is_exported(timm_run: Path, tmp_path: Path) -> None:
    name = Run(timm_run).record().recipe.network.backbone
    size: dict[str, Any] = {"img_size": 32} if name == "test_vit" else {}
    export_run(timm_run, tmp_path / "bundle", "timm", "1", ExportOptions(("fp16", "int8"), features=True))
    images = fashion(4, 32)
    expected = Engine(open_bundle(tmp_path / "bundle")).features(images)
    said = write_weights(timm_run, tmp_path / "backbone.safetensors")
    assert said.startswith(f'timm.create_model("{name}", num_classes=0')
    assert ("img_size=32" in said) == bool(size)
    net = timm.create_model(
        name, pretrained=False, num_classes=0, checkpoint_path=tmp_path / "backbone.safetensors", **size
    )
    np.testing.assert_allclose(net.eval()(pixels(images)).numpy(), expected, atol=1e-4)


@torch.no_grad()
def test_our_own_network_from_its_metadata(finished_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "backbone.safetensors"
    done = vssl_here("export", finished_run, "--torch", file)
    assert "backbone.safetensors holds the weights of vssl_training." in done.stderr
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    recipe = Run(finished_run).record().recipe
    assert NetworkSettings.model_validate(json.loads(about["network"])) == recipe.network
    assert (about["size"], about["mean"], about["std"]) == ("32", "0.5", "0.25")
    backbone = build_encoder(recipe).backbone.eval()
    backbone.load_state_dict(load_file(file))
    images, ours = torch.rand(3, 3, 32, 32), load_embedder(Run(finished_run)).backbone
    torch.testing.assert_close(backbone(images).final, ours(images).final, rtol=0, atol=0)


def test_nothing_is_written_where_there_is_nothing_to_export(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; name the file"):
        write_weights(finished_run, tmp_path)
    with pytest.raises(UsageError, match="no run here"):
        write_weights(tmp_path / "missing", tmp_path / "backbone.safetensors")
    assert list(tmp_path.iterdir()) == []

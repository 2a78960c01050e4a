"""`--torch`: the backbone's weights, loaded by timm and by our own network, give the backbone's features."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from vssl.errors import UsageError
from vssl_export.weights import inner, write_weights
from vssl_training.embedder import build_encoder
from vssl_training.recipe import NetworkSettings
from vssl_training.run import Run

VSSL = Path(sys.executable).parent / "vssl"


class Wrapped(nn.Module):
    """A model of timm as a backbone holds it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = timm.create_model(name, pretrained=False, num_classes=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_weights_of_a_model_of_timm_have_its_names(name: str, tmp_path: Path) -> None:
    backbone = Wrapped(name).eval()
    save_file(inner(backbone).state_dict(), tmp_path / "backbone.safetensors")
    loaded = timm.create_model(name, num_classes=0, checkpoint_path=tmp_path / "backbone.safetensors").eval()
    images = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(loaded(images), backbone.net(images))


@torch.no_grad()
def test_our_own_network_from_its_metadata(finished_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "backbone.safetensors"
    done = subprocess.run([VSSL, "export", finished_run, "--torch", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "backbone.safetensors holds the weights of vssl_training." in done.stderr
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    recipe = Run(finished_run).record().recipe
    assert NetworkSettings.model_validate(json.loads(about["network"])) == recipe.network
    assert (about["size"], about["mean"], about["std"]) == ("32", "0.5", "0.25")
    backbone = build_encoder(recipe).backbone.eval()
    backbone.load_state_dict(load_file(file))
    images, ours = torch.rand(3, 3, 32, 32), Run(finished_run).load_embedder().backbone
    torch.testing.assert_close(backbone(images).final, ours(images).final, rtol=0, atol=0)


def test_nothing_is_written_where_there_is_nothing_to_export(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; name the file"):
        write_weights(finished_run, tmp_path)
    with pytest.raises(UsageError, match="no run here"):
        write_weights(tmp_path / "missing", tmp_path / "backbone.safetensors")
    assert list(tmp_path.iterdir()) == []

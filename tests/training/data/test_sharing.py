"""Two processes of a machine decode their images once, and train on the same memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.run.test_processes import TORCHRUN

PROGRAM = """
import hashlib, json, os, sys
import torch
from vssl.errors import VsslError
from vssl.images import decoding
from vssl.sources import in_memory
from vssl_training.data.loading import load_data
from vssl_training.recipe.reading import load_recipe
from vssl_training.run.processes import joined

decoded = 0

def counted(*arguments):
    global decoded
    decoded += 1
    return decoding.decode(*arguments)

in_memory.decode = counted
image, told = load_recipe("quick").image.settled(), []
with joined() as device:
    for folder in sys.argv[2:]:
        decoded = 0
        try:
            data = load_data(folder, folder, image, device, 0.2, lambda line: None)
            shared = "memfd:vssl images" in open("/proc/self/maps").read()
            pixels = hashlib.sha256(data.images.numpy().tobytes()).hexdigest()
            assert data.val is None or len(data.val) == 40
            told.append([decoded, shared, pixels, len(data.images), data.sample.paths, data.sample.failures])
        except VsslError as error:
            told.append([decoded, str(error)])
    with open(os.path.join(sys.argv[1], os.environ["RANK"]), "w") as file:
        json.dump(told, file)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="processes share images on Linux alone")
def test_images_are_decoded_once_and_shared(damaged: Path, tmp_path: Path) -> None:
    """With files that can't be read among them; what none can be read of is refused by every process."""
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [
            *TORCHRUN,
            "--no-python",
            sys.executable,
            "-c",
            PROGRAM,
            *map(str, (tmp_path / "out", damaged, tmp_path / "none")),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / "out" / str(rank)).read_text()) for rank in range(2))
    assert [told[0] for told in first] == [90, 1]
    assert [told[0] for told in second] == [0, 0]
    assert [told[1:] for told in first] == [told[1:] for told in second]
    assert first[0][1] is True
    assert first[0][3] == 40
    assert "none of 1 files can be read" in first[1][1]

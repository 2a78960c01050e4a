"""A bundle's ONNX file and our decoding, for the peers in a virtual environment without us: numpy, pillow, onnxruntime.

`PYTHONPATH=core` brings `vssl.images.decoding`, which needs nothing else of ours.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from vssl.images.decoding import Preprocessing, decode

OUTPUTS = ("embedding", "variance", "uncertainty")
BUNDLE = "PEER_BUNDLE"
"""The environment variable with the bundle's folder: the peers start processes of their own."""


class Encoder:
    """One session with ONNX Runtime's own defaults, which is what the peers' documentation shows."""

    def __init__(self) -> None:
        folder = Path(os.environ[BUNDLE])
        manifest = json.loads((folder / "manifest.json").read_text())
        self.preprocessing = Preprocessing(**manifest["preprocessing"])
        self.session: Any = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def pixels(self, files: list[str]) -> Any:  # noqa: ANN401
        """Base64 → uint8 [N, S, S, 3]."""
        return np.stack([decode(base64.b64decode(file), self.preprocessing) for file in files])

    def __call__(self, pixels: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        """uint8 [N, S, S, 3] → an answer for each image."""
        embedding, variance, uncertainty = self.session.run(OUTPUTS, {"image": pixels})
        return [
            {"embedding": one.tolist(), "variance": two.tolist(), "uncertainty": float(three)}
            for one, two, three in zip(embedding, variance, uncertainty, strict=True)
        ]

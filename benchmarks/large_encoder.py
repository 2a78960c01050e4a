"""A bundle of a ResNet-18 at 224 pixels with random weights: speed does not depend on what it learned."""

from pathlib import Path

import timm
from torch import Tensor, nn

from benchmarks.export import engines_of
from vssl_export.model.onnx_file import to_onnx, without_features
from vssl_training.encoder.embedder import Embedder
from vssl_training.encoder.features import Features

SIDE, FEATURES, DIMENSION = 224, 512, 128


class Resnet(nn.Module):
    """ResNet-18 of timm as a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("resnet18", pretrained=False, num_classes=0)

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, 224, 224] in 0 … 1."""
        return Features(images, self.net((images - 0.5) * 4), ())


def large_bundle(folder: Path) -> Path:
    """Write it."""
    mean, log_variance = (nn.Linear(FEATURES, DIMENSION) for _ in range(2))
    embedder = Embedder(Resnet(), mean, log_variance, detail=False)  # type: ignore[arg-type]
    engines_of({"fp32": without_features(to_onnx(embedder, SIDE))}, SIDE, DIMENSION, folder / "large")
    return folder / "large"

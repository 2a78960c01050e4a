"""A run or a bundle, opened to be evaluated. Torch is needed for a run only."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vssl.arrays import Pixels
from vssl.bundle.default import located
from vssl.bundle.manifest import MANIFEST
from vssl.bundle.reading import open_bundle
from vssl.engine import Embeddings, Engine
from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing


class Model(Protocol):
    """A run or a bundle, opened."""

    preprocessing: Preprocessing
    classes: str | None
    """The list of classes that it was trained on, where it is known."""
    clamp: tuple[float, float] | None
    """Bounds of log σ², where they are known."""

    def embed(self, pixels: Pixels) -> Embeddings:
        """Embed uint8 [N, S, S, 3]."""
        ...

    def features(self, pixels: Pixels) -> npt.NDArray[np.float32] | None:
        """The backbone's features [N, F], or None where the model does not give them."""
        ...


class BundleModel:
    """A bundle in ONNX Runtime."""

    classes: str | None = None
    clamp: tuple[float, float] | None = None

    def __init__(self, path: Path) -> None:
        bundle = open_bundle(path)
        self.preprocessing = bundle.manifest.preprocessing
        self._engine = Engine(bundle)

    def embed(self, pixels: Pixels) -> Embeddings:
        """See `Model`."""
        return self._engine(pixels)

    def features(self, pixels: Pixels) -> None:
        """A bundle gives embeddings alone."""


class RunModel:
    """A finished run in torch."""

    def __init__(self, path: Path) -> None:
        from vssl_training.encoder.weights import load_embedder
        from vssl_training.run.folder import Run
        from vssl_training.run.record import preprocessing_of

        run = Run(path)
        recipe = run.record().recipe
        self.preprocessing, self.classes = preprocessing_of(recipe), recipe.image.classes
        self._embedder = load_embedder(run)
        self.clamp: tuple[float, float] | None = self._embedder.log_variance.clamp

    def embed(self, pixels: Pixels) -> Embeddings:
        """See `Model`."""
        from vssl_training.encoder.embedder import embeddings_of

        return embeddings_of(self._embedder, pixels)

    def features(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """See `Model`."""
        from vssl_training.encoder.embedder import embed
        from vssl_training.views.pixels import to_float

        backbone = self._embedder.backbone
        return embed(self._embedder, pixels, answer=lambda batch: [backbone(to_float(batch)).final])[0]


def open_model(path: Path) -> Model:
    """A bundle (a folder with a manifest, a .zip, `builtin:NAME`) or a run.

    Raises:
        UsageError: it is neither, or it is a run and torch is not installed.
    """
    path = located(path)
    if path.suffix == ".zip" or (path / MANIFEST).exists():
        return BundleModel(path)
    if (path / "recipe.yaml").exists():
        try:
            return RunModel(path)
        except ModuleNotFoundError as error:
            # The command's own extra is that of a bundle.
            raise UsageError(f"to evaluate a run needs {error.name}: pip install 'vssl[train]'") from error
    raise UsageError(f"{path}: neither a run (no recipe.yaml) nor a bundle (no {MANIFEST})")

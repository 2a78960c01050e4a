"""The one place that opens ONNX Runtime: pixels in, embeddings with their variance out.

The server, in-process embedding, verification and evaluation all call `Engine`, so they answer alike.
"""

import contextlib
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.bundle import Bundle
from vssl.errors import BundleError, UsageError, VsslError
from vssl.manifest import Precision

OUTPUTS = ("embedding", "variance", "uncertainty")
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class Embeddings:
    """The answer for N images, float32: `embedding` [N, D] of unit length, `variance` [N, D] on the same scale,
    `uncertainty` [N], higher is worse.
    """

    embedding: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    uncertainty: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.uncertainty)

    def __getitem__(self, rows: slice) -> "Embeddings":
        return Embeddings(self.embedding[rows], self.variance[rows], self.uncertainty[rows])


def concatenate(parts: list[Embeddings]) -> Embeddings:
    """Join answers in order; at least one part."""
    return Embeddings(*(np.concatenate([getattr(part, name) for part in parts]) for name in OUTPUTS))


class Engine:
    """A bundle's model in ONNX Runtime. One engine may be called from many threads.

    Args:
        bundle: a verified bundle.
        threads: threads inside one call; 0 leaves the choice to ONNX Runtime (all cores).
        precision: which of the bundle's models to run.

    Raises:
        UsageError: onnxruntime and onnxruntime-gpu are both installed, or the bundle has no such precision.
        BundleError: the model can't be loaded, or is not what the manifest says.
    """

    def __init__(self, bundle: Bundle, threads: int = 0, precision: Precision = "fp32") -> None:
        refuse_both_runtimes()
        models = bundle.manifest.models
        if precision not in models:
            raise UsageError(f"{bundle.location}: no model in {precision}; there are {', '.join(models)}")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # A model may name files that hold its weights. A bundle's never does, and none are to be found in our place.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        # Waiting threads would spin on the cores that decode the next batch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = set(onnxruntime.get_available_providers())
        providers = [name for name in PROVIDERS if name in available]
        model = models[precision]
        data = bundle.read(model.path)
        try:
            self._session: Any = onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:
            # ONNX Runtime's exceptions share no base class of their own.
            raise BundleError(f"{bundle.location}: ONNX Runtime can't load {model.path}: {error}") from error
        self.size = bundle.manifest.preprocessing.size
        self.dimension = bundle.manifest.outputs.dimension
        self._check_signature(bundle)

    @property
    def providers(self) -> list[str]:
        """What the session really runs on: ONNX Runtime falls back to the CPU without an error."""
        return list(self._session.get_providers())

    def __call__(self, images: npt.NDArray[np.uint8]) -> Embeddings:
        """Embed uint8 images [N, size, size, 3], N ≥ 0.

        Raises:
            ValueError: another shape or type.
            VsslError: ONNX Runtime failed.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (self.size, self.size, 3):
            raise ValueError(
                f"images are {images.dtype} {list(images.shape)}, not uint8 [N, {self.size}, {self.size}, 3]"
            )
        if len(images) == 0:
            none = np.zeros((0, self.dimension), np.float32)
            return Embeddings(none, none, np.zeros(0, np.float32))
        try:
            return Embeddings(*self._session.run(OUTPUTS, {"image": images}))
        except Exception as error:
            raise VsslError(f"ONNX Runtime failed on a batch of {len(images)} images: {error}") from error

    def _check_signature(self, bundle: Bundle) -> None:
        def described(values: list[Any]) -> str:
            # The first dimension is the batch, whatever its name; a number there would fix its size.
            shapes = [["N", *value.shape[1:]] if isinstance(value.shape[0], str) else value.shape for value in values]
            return ", ".join(f"{value.name} {value.type} {shape}" for value, shape in zip(values, shapes, strict=True))

        found = f"{described(self._session.get_inputs())} → {described(self._session.get_outputs())}"
        vector = f"tensor(float) ['N', {self.dimension}]"
        wanted = (
            f"image tensor(uint8) ['N', {self.size}, {self.size}, 3] → "
            f"embedding {vector}, variance {vector}, uncertainty tensor(float) ['N']"
        )
        if found != wanted:
            raise BundleError(
                f"{bundle.location}: the model is {found}, the manifest promises {wanted}; export the bundle again"
            )


def refuse_both_runtimes() -> None:
    """The two wheels overwrite each other's files, and pip does not notice: which one runs is then chance."""
    with contextlib.suppress(PackageNotFoundError):
        distribution("onnxruntime"), distribution("onnxruntime-gpu")
        raise UsageError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install the one you want again"
        )

"""The one place that opens ONNX Runtime: pixels in, embeddings with their variance out.

The server, in-process embedding, verification and evaluation all call `Engine`, so they answer alike.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.bundle import Bundle
from vssl.errors import BundleError, UsageError

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

    Raises:
        UsageError: onnxruntime and onnxruntime-gpu are both installed.
        BundleError: the model can't be loaded, or is not what the manifest says.
    """

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        refuse_both_runtimes()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Waiting threads would spin on the cores that decode the next batch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = set(onnxruntime.get_available_providers())
        model = bundle.manifest.models["fp32"]
        try:
            self._session: Any = onnxruntime.InferenceSession(
                bundle.read(model.path), options, providers=[name for name in PROVIDERS if name in available]
            )
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
        """
        expected = (self.size, self.size, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images are {images.dtype} {images.shape}, the model takes uint8 (N, {expected})")
        if len(images) == 0:
            none = np.zeros((0, self.dimension), np.float32)
            return Embeddings(none, none, np.zeros(0, np.float32))
        return Embeddings(*self._session.run(OUTPUTS, {"image": images}))

    def _check_signature(self, bundle: Bundle) -> None:
        inputs = [(value.name, value.type, value.shape[1:]) for value in self._session.get_inputs()]
        outputs = [(value.name, value.type, value.shape[1:]) for value in self._session.get_outputs()]
        vector = "tensor(float)"
        wanted_inputs = [("image", "tensor(uint8)", [self.size, self.size, 3])]
        wanted_outputs = [
            ("embedding", vector, [self.dimension]),
            ("variance", vector, [self.dimension]),
            ("uncertainty", vector, []),
        ]
        if inputs != wanted_inputs or outputs != wanted_outputs:
            raise BundleError(
                f"{bundle.location}: the model's inputs {inputs} and outputs {outputs} are not those that the manifest "
                f"promises ({wanted_inputs}, {wanted_outputs}); export the bundle again"
            )


def refuse_both_runtimes() -> None:
    """The two wheels overwrite each other's files, and pip does not notice: which one runs is then chance."""
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(distribution(name).metadata["Name"])
        except PackageNotFoundError:
            continue
    if len(installed) > 1:
        raise UsageError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install the one you want again"
        )

"""An embedder as one ONNX file, and the proof that ONNX Runtime answers what torch answers."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from vssl.engine import OUTPUTS, Embeddings
from vssl.errors import VsslError
from vssl.manifest import Parity

OPSET = 20
PARITY_LIMIT = 1e-3
"""Largest difference allowed, on embeddings (of unit length), log variances and uncertainties alike."""


def to_onnx(embedder: nn.Module, size: int) -> bytes:
    """Serialise an embedder: input `image` uint8 [N, size, size, 3], outputs as `vssl.engine.OUTPUTS`, N free.

    Raises:
        VsslError: the result is not a valid model, or needs a file beside it.
    """
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("N", min=1, max=65_536)
    with quiet():
        program = torch.onnx.export(
            embedder.eval(),
            (example,),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"images": {0: batch}},
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise VsslError("torch's exporter returned no ONNX program")
    model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    for node in model.graph.node:
        node.ClearField("metadata_props")  # stack traces: paths of the machine that exported
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    return bytes(model.SerializeToString())


def compare(ours: Embeddings, torchs: Embeddings) -> Parity:
    """Largest absolute differences between two answers for the same images.

    Raises:
        VsslError: one of them is over the limit.
    """

    def largest(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
        return float(np.abs(a - b).max())

    differences = {
        "embedding": largest(ours.embedding, torchs.embedding),
        "log_variance": largest(np.log(ours.variance), np.log(torchs.variance)),
        "uncertainty": largest(ours.uncertainty, torchs.uncertainty),
    }
    for name, difference in differences.items():
        if not difference <= PARITY_LIMIT:  # this way round, so that nan is refused too
            raise VsslError(
                f"ONNX Runtime's {name} differs from torch's by {difference:.2g} (limit {PARITY_LIMIT:g}): not exported"
            )
    return Parity(images=len(ours), limit=PARITY_LIMIT, **differences)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back the exporter's notes to developers; its exceptions still come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""An embedder as one ONNX file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import nn

from vssl.engine import OUTPUTS
from vssl.errors import VsslError

OPSET = 20


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

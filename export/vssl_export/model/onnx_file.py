"""An embedder as one ONNX file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor

from vssl.engine import FEATURES, OUTPUTS
from vssl.errors import VsslError
from vssl_training.encoder.embedder import Embedder

OPSET = 20


def to_onnx(embedder: Embedder, size: int) -> bytes:
    """Serialise an embedder: input `image` uint8 [N, size, size, 3], outputs as `vssl.engine.OUTPUTS`, N free.

    Its fourth output is `features` [N, F]: a user may not want it, but it shows where the backbone ends.

    Raises:
        VsslError: the result is not a valid model, or needs a file beside it.
    """
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("N", min=1, max=65_536)
    with quiet():
        program = torch.onnx.export(
            WithFeatures(embedder.eval()).eval(),
            (example,),
            input_names=["image"],
            output_names=[*OUTPUTS, FEATURES],
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
    for node in model.graph.node:
        node.ClearField("metadata_props")  # stack traces: paths of the machine that exported
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    return serialised(model)


class WithFeatures(Embedder):
    """An embedder whose call gives the features too: that is what torch exports. Its weights keep their names."""

    def __init__(self, embedder: Embedder) -> None:
        kept = (embedder.joint, embedder.detail, embedder.sees)
        super().__init__(embedder.backbone, embedder.mean, embedder.log_variance, *kept)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[override]
        """See `Embedder.with_features`."""
        return self.with_features(images)


def without_features(data: bytes) -> bytes:
    """The model with the three outputs of the contract alone."""
    model = onnx.load_from_string(data)
    kept = [output for output in model.graph.output if output.name != FEATURES]
    model.graph.ClearField("output")
    model.graph.output.extend(kept)
    return serialised(model)


def serialised(model: onnx.ModelProto) -> bytes:
    """A model as the bytes of its file, with the types and shapes of all values inferred and everything checked.

    Raises:
        VsslError: the model is not valid.
    """
    try:
        whole = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(whole, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VsslError(f"the ONNX model is not valid: {error}") from error
    return bytes(whole.SerializeToString())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back the exporters' notes to developers; their exceptions still come through."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)

"""Weights stored as float16: half of the file. The arithmetic stays in float32."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vssl_export.model.onnx_file import serialised

LEAST_NUMBERS = 64
"""Of a tensor that is rounded: what is smaller saves nothing."""


def with_half_weights(data: bytes) -> bytes:
    """The model with its float32 weights as float16, each behind a Cast, which runtimes do once as they load it.

    A tensor with a number that float16 is too small for stays as it is.
    """
    model = onnx.load_from_string(data)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_NUMBERS:
            continue
        weights = numpy_helper.to_array(tensor)
        if np.abs(weights).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"cast_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return serialised(model)

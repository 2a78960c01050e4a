"""Weights stored as float16: half of the file. The arithmetic stays in float32."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vssl_export.model.onnx_file import serialised

SPARED = 0.04
"""Part of all numbers, those of the smallest tensors, that stay float32. They are the first layers' most of all, whose
rounding moves the variance most: of EfficientNet-Lite0's log variances by .017, and by .004 if they are spared.
"""


def with_half_weights(data: bytes) -> bytes:
    """The model with its float32 weights as float16, each behind a Cast, which runtimes do once as they load it.

    A tensor with a number that float16 is too small for stays as it is.
    """
    model = onnx.load_from_string(data)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    floats.sort(key=lambda tensor: int(np.prod(tensor.dims)))
    numbers = np.cumsum([int(np.prod(tensor.dims)) for tensor in floats])
    casts = []
    for tensor, so_far in zip(floats, numbers, strict=True):
        weights = numpy_helper.to_array(tensor)
        if so_far <= SPARED * numbers[-1] or np.abs(weights).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"cast_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return serialised(model)

"""The fp32 ONNX file in lower precisions. What they cost is measured in `vssl_export.checking`."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from vssl.engine import FEATURES
from vssl_export.model.onnx_file import quiet, serialised

CALIBRATION_BATCH = 32


def to_half(data: bytes) -> bytes:
    """The trunk in float16; inputs, heads and outputs stay as they are.

    The heads hold what float16 is too small for: exponentials, logarithms, and sums of squares over whole maps.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    inside, weights = trunk(model), {tensor.name: tensor for tensor in model.graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    types |= {name: tensor.data_type for name, tensor in weights.items()}
    nodes: list[onnx.NodeProto] = []
    copies: dict[tuple[str, int], str] = {}
    """Names of the values of which there is a copy in another type."""

    def in_type(value: str, wanted: int) -> str:
        if types.get(value) not in (TensorProto.FLOAT, TensorProto.FLOAT16) or types[value] == wanted:
            return value
        if (value, wanted) not in copies:
            copies[value, wanted] = copy = f"{value}_{'half' if wanted == TensorProto.FLOAT16 else 'float'}"
            if value in weights:
                smaller = numpy_helper.to_array(weights[value]).astype(np.float16)
                model.graph.initializer.append(numpy_helper.from_array(smaller, copy))
            else:
                nodes.append(helper.make_node("Cast", [value], [copy], name=f"cast_{copy}", to=wanted))
        return copies[value, wanted]

    for node in model.graph.node:
        wanted = TensorProto.FLOAT16 if node.name in inside else TensorProto.FLOAT
        node.input[:] = [in_type(value, wanted) for value in node.input]
        if node.name in inside:
            types |= {value: TensorProto.FLOAT16 for value in node.output if types.get(value) == TensorProto.FLOAT}
        nodes.append(node)
    used = {value for node in nodes for value in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    for field, values in (("node", nodes), ("initializer", kept), ("value_info", [])):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    return serialised(model)


def to_int8(data: bytes, images: npt.NDArray[np.uint8]) -> bytes:
    """The trunk in 8 bits by static quantisation: weights int8 per channel, activations uint8.

    Ranges are those that the images [N, S, S, 3] reach. Weights keep to 7 bits, since processors without VNNI add two
    products of uint8 and int8 in 16 bits and would saturate.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load_from_string(data)
    inside = trunk(model)
    products = [node for node in model.graph.node if node.name in inside and node.op_type == "MatMul"]
    # A transformer adds up what its blocks find, in numbers too far apart for 8 bits; its products alone are quantised.
    types = ["MatMul", "Conv"] if products else ["Conv", "Add", "Relu", "MaxPool"]
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder, "int8.onnx")
        quantize_static(
            model,
            path,
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=[node.name for node in model.graph.node if node.name in inside],
            op_types_to_quantize=types,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        small = onnx.load(path)
    return serialised(small)


def trunk(model: onnx.ModelProto) -> set[str]:
    """Names of the backbone's nodes from the first convolutions to the last product: what takes the time, and bears
    rounding.
    """
    nodes = model.graph.node
    backbone = _reached(reversed(nodes), lambda node: FEATURES in node.output, forward=False)
    products = backbone & {node.name for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul")}
    return _reached(nodes, lambda node: node.op_type == "Conv", forward=True) & _reached(
        reversed(nodes), lambda node: node.name in products, forward=False
    )


def _reached(nodes: Iterable[onnx.NodeProto], starts: Callable[[onnx.NodeProto], bool], forward: bool) -> set[str]:
    """Names of the nodes that start, and of what depends on one (forward) or is needed by one; nodes in that order."""
    names: set[str] = set()
    values: set[str] = set()
    for node in nodes:
        sources, results = (node.input, node.output) if forward else (node.output, node.input)
        if starts(node) or not values.isdisjoint(sources):
            names.add(node.name)
            values.update(results)
    return names


class _Calibration:
    """What ONNX Runtime asks for batches of images, until there is none."""

    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        self._batches: Iterator[npt.NDArray[np.uint8]] = iter(
            [images[start : start + CALIBRATION_BATCH] for start in range(0, len(images), CALIBRATION_BATCH)]
        )

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}

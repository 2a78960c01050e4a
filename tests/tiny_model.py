"""A real ONNX model of a few kilobytes, made without torch: mean colour of each of 4×4 cells, projected to D = 16.

`variance` grows as the image loses contrast, so that a grey image is less certain than a detailed one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle

SIZE, DIMENSION = 32, 16


def tiny_onnx(seed: int = 0) -> bytes:
    """Serialised model with the signature that a bundle promises."""
    rng = np.random.default_rng(seed)
    projection = rng.normal(size=(48, DIMENSION)).astype(np.float32)
    constants = {
        "projection": projection,
        "half": np.float32(127.5),
        "one": np.float32(1.0),
        "dims": np.float32(DIMENSION),
        "last": np.array([1], np.int64),
        "flat": np.array([0, -1], np.int64),
        "pixels": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "half"], ["centred"]),
        helper.make_node("Div", ["centred", "half"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "flat"], ["vector"]),
        helper.make_node("MatMul", ["vector", "projection"], ["mean"]),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
        helper.make_node("Mul", ["scaled", "scaled"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "pixels"], ["contrast"], keepdims=0),
        helper.make_node("Add", ["contrast", "one"], ["precision"]),
        helper.make_node("Unsqueeze", ["precision", "last"], ["column"]),
        helper.make_node("Mul", ["column", "dims"], ["divisor"]),
        helper.make_node("Mul", ["embedding", "embedding"], ["shape"]),
        helper.make_node("Add", ["shape", "one"], ["numerator"]),
        helper.make_node("Div", ["numerator", "divisor"], ["variance"]),
        helper.make_node("Log", ["variance"], ["log_variance"]),
        helper.make_node("ReduceMean", ["log_variance", "last"], ["uncertainty"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", DIMENSION]),
            helper.make_tensor_value_info("variance", TensorProto.FLOAT, ["N", DIMENSION]),
            helper.make_tensor_value_info("uncertainty", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def tiny_calibration(labelled: bool = True) -> dict[str, Any]:
    """Made by hand, in the range of uncertainties that the tiny model gives."""
    confidence = {"curve": {"x": [-3.3, -2.95, -2.7], "y": [0.9, 0.6, 0.2]}, "auroc": 0.7, "ece": 0.02}
    return {
        "reference": {"images": 100, "sha256": "0" * 64, "classes": 10 if labelled else None},
        "percentile": {"x": [-3.3, -2.95, -2.75], "y": [0.0, 70.0, 100.0]},
        "acceptance": {"degraded": -2.95, "ood": -2.89},
        "log_variance_mean": [-3.0] * DIMENSION,
        "log_variance_std": [0.5] * DIMENSION,
        "corruptions": {"blur": [0.6, 0.7, 0.8, 0.9, 1.0]},
        "confidence": confidence if labelled else None,
        "created": "2026-01-01T00:00:00+00:00",
    }


def tiny_references(images: int = 200) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest's `familiarity` and its file: random directions, so that images differ in how near they are."""
    vectors = np.random.default_rng(0).normal(size=(images, DIMENSION))
    data = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f2").tobytes()
    return {"file": "familiarity.f16", "images": images, "k": 10}, {"familiarity.f16": data}


def write_tiny_bundle(
    location: Path,
    name: str = "tiny",
    calibration: dict[str, Any] | None = None,
    version: str = "1",
    seed: int = 0,
    files: Mapping[str, bytes] | None = None,
    **preprocessing: Any,
) -> Bundle:
    """Write a bundle around the tiny model, one of its own for each seed, with further files, and open it."""
    parity = {"images": 1, "embedding": 0.0, "log_variance": 0.0, "uncertainty": 0.0, "limit": 1e-4}
    fields = {
        "name": name,
        "version": version,
        "preprocessing": {"size": SIZE, **preprocessing},
        "outputs": {"dimension": DIMENSION},
        "models": {"fp32": {"path": "model.onnx", "parity": parity}},
        "calibration": calibration,
        "evaluation": {},
        "provenance": {"recipe": {}, "data": {}, "seed": 0, "versions": {}, "created": "2026-01-01T00:00:00Z"},
    }
    write_bundle(location, fields, {"model.onnx": tiny_onnx(seed), **(files or {})})
    return open_bundle(location)

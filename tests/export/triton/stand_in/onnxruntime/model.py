"""Stands in for Triton's onnxruntime backend, which is in no package: opens an unmodified `model.onnx` repository.

Like the real one it refuses a configuration that does not fit the model.
"""

import json
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        return config

    def initialize(self, args: dict[str, Any]) -> None:
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        if not path.is_file():  # a Python-based backend is handed the model's own folder, or the repository's
            path = Path(args["model_repository"], args["model_name"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        check(config["input"], self.session.get_inputs())
        check(config["output"], self.session.get_outputs())
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        inputs = {
            i.name: triton.get_input_tensor_by_name(request, i.name).as_numpy() for i in self.session.get_inputs()
        }
        answers = self.session.run(self.outputs, inputs)
        return triton.InferenceResponse(
            [triton.Tensor(name, value) for name, value in zip(self.outputs, answers, strict=True)]
        )


def check(promised: list[dict[str, Any]], found: list[Any]) -> None:
    """Names, types and dims without the batch, in the configuration and in the model."""
    shapes = {tensor["name"]: tensor.get("reshape", {"shape": tensor["dims"]})["shape"] for tensor in promised}
    ours = {tensor["name"]: (tensor["data_type"], [int(n) for n in shapes[tensor["name"]]]) for tensor in promised}
    theirs = {tensor.name: (TYPES.get(tensor.type), list(tensor.shape[1:])) for tensor in found}
    if ours != theirs:
        raise triton.TritonModelException(f"config.pbtxt says {ours}, model.onnx has {theirs}")

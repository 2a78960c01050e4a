"""Triton's Python backend: encoded images → pixels. Copied beside `preprocessing.py`, with numpy and pillow around."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# Both are beside this file, or given by Triton, only where it runs.
import triton_python_backend_utils as triton  # type: ignore[import-not-found]
from preprocessing import ImageError, Preprocessing, decode  # type: ignore[import-not-found]


class TritonPythonModel:
    """`image` BYTES [N, 1] → `pixels` uint8 [N, S, S, 3]. A request with a bad image fails, alone and by its index."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Read the settings that export wrote into `config.pbtxt`."""
        settings = {key: value["string_value"] for key, value in json.loads(args["model_config"])["parameters"].items()}
        size, crop = int(settings["size"]), float(settings["crop"])
        kinds = (settings[key] for key in ("interpolation", "fit", "decoder"))
        self.preprocessing = Preprocessing(size, crop, *kinds)
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests; their images are decoded on all cores."""
        images = [triton.get_input_tensor_by_name(request, "image").as_numpy()[:, 0] for request in requests]
        decoded = iter(self.pool.map(self.decode, [data for request in images for data in request]))
        return [self.respond([next(decoded) for _ in request]) for request in images]

    def decode(self, data: bytes) -> Any:  # noqa: ANN401 — pixels, or why there are none
        """One image, or the reason that it was refused."""
        try:
            return decode(data, self.preprocessing)
        except ImageError as error:
            return error

    def respond(self, decoded: list[Any]) -> Any:  # noqa: ANN401 — Triton's module has no types
        """One request's answer."""
        refused = [f"image {i}: {found}" for i, found in enumerate(decoded) if isinstance(found, ImageError)]
        if refused:
            return triton.InferenceResponse(
                error=triton.TritonError("; ".join(refused), triton.TritonError.INVALID_ARG)
            )
        return triton.InferenceResponse([triton.Tensor("pixels", np.stack(decoded))])

    def finalize(self) -> None:
        """End the threads."""
        self.pool.shutdown()

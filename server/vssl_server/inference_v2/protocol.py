"""What REST and gRPC share of the Open Inference Protocol v2: models, their metadata, inference.

Each model has two names: `NAME` takes pixels, `NAME_image` encoded images, as in the Triton repository that
`vssl export` writes, so that a client can't tell the two servers apart.
"""

import asyncio
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import vssl
from vssl.arrays import Pixels
from vssl.bundle.manifest import protocol_parameters
from vssl.engine import OUTPUTS
from vssl_server.engine.model import Model
from vssl_server.engine.pipeline import EmbedResult
from vssl_server.models.registry import ModelRegistry, look_up
from vssl_server.settings import Settings
from vssl_server.wire.images import Encoded, check_count
from vssl_server.wire.tensors import Tensor, images_in, invalid, to_files, to_pixels

INPUT = "image"
BUNDLE = "vssl_bundle"
"""The parameter of an answer with the id of the bundle that made it, as in a model's configuration."""
PLATFORM = "onnxruntime_onnx"
NO_SHARED_MEMORY = "shared memory is not supported; send tensors in the request"
SERVER = {
    "name": "vssl",
    "version": vssl.__version__,
    "extensions": ["binary_tensor_data", "model_configuration", "statistics"],
}


@dataclass(frozen=True)
class InferenceModel:
    """One of a model's two names."""

    name: str
    model: Model
    encoded: bool
    settings: Settings
    versions: Sequence[str]
    """All that are served under this name."""

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.model.version

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of each answer."""
        return {BUNDLE: self.model.manifest.id}

    @property
    def datatype(self) -> str:
        """Of the input."""
        return "BYTES" if self.encoded else "UINT8"

    @property
    def dims(self) -> list[int]:
        """The input's shape without the batch."""
        size = self.model.manifest.preprocessing.size
        return [1] if self.encoded else [size, size, 3]

    @property
    def most_values(self) -> int:
        """An upper bound on the values in the JSON of a request, its lists among them."""
        return 2 * self.settings.max_images * math.prod(self.dims) + 1000

    def metadata(self) -> dict[str, Any]:
        """Inputs and outputs; −1 is the number of images."""
        return {
            "name": self.name,
            "versions": self.versions,
            "platform": PLATFORM,
            "inputs": [{"name": INPUT, "datatype": self.datatype, "shape": [-1, *self.dims]}],
            "outputs": [
                {"name": name, "datatype": "FP32", "shape": [-1, *dims]} for name, dims in self._outputs().items()
            ],
        }

    def config(self) -> dict[str, Any]:
        """The same in the fields of Triton's `ModelConfig`."""
        kind = "TYPE_STRING" if self.encoded else "TYPE_UINT8"
        return {
            "name": self.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": self.settings.max_images,
            "input": [{"name": INPUT, "data_type": kind, "dims": self.dims}],
            "output": [
                {"name": name, "data_type": "TYPE_FP32", "dims": dims} for name, dims in self._outputs().items()
            ],
            "dynamic_batching": {},
            "parameters": {
                key: {"string_value": value} for key, value in protocol_parameters(self.model.manifest).items()
            },
        }

    def statistics(self) -> dict[str, Any]:
        """Triton's `ModelStatistics`; both names of a model have the same numbers."""
        counts = asdict(self.model.statistics)
        totals = {name: counts.pop(name) for name in list(counts) if isinstance(counts[name], dict)}
        return {"name": self.name, "version": self.version, **counts, "inference_stats": totals}

    async def infer(self, inputs: Sequence[Tensor]) -> EmbedResult:
        """Embed the one input.

        Raises:
            ApiError: 400 or 413, it is not what the metadata say, or holds too many images.
            BadImagesError, OverloadedError, InferenceError, EngineStoppedError: as `Model.embed`.
        """
        if [tensor.name for tensor in inputs] != [INPUT]:
            names = [tensor.name for tensor in inputs]
            raise invalid(f"{self.name} has one input, {INPUT}; the request has {', '.join(names) or 'none'}")
        [tensor] = inputs
        check_count(images_in(tensor, self.datatype, self.dims), self.settings, INPUT)
        # Bytes become an array without a copy. Lists of numbers take a while, so the loop serves others meanwhile.
        if isinstance(tensor.data, bytes | memoryview):
            images = self._read(tensor)
        else:
            images = await asyncio.to_thread(self._read, tensor)
        if isinstance(images, list):
            return await self.model.embed(images, partial=False)
        return await self.model.embed_pixels(images)

    def _read(self, tensor: Tensor) -> list[Encoded] | Pixels:
        return to_files(tensor) if self.encoded else to_pixels(tensor, self.model.manifest.preprocessing.size)

    def _outputs(self) -> dict[str, list[int]]:
        dimension = self.model.manifest.outputs.dimension
        # Triton knows no output without dimensions.
        return {"embedding": [dimension], "variance": [dimension], "uncertainty": [1]}


class Catalogue:
    """The models by the names that the protocol knows them by."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry

    @property
    def models(self) -> list[InferenceModel]:
        """Each served model under both its names."""
        versions: dict[str, list[str]] = {}
        for model in self.registry.models:
            versions.setdefault(model.name, []).append(model.version)
        return [
            InferenceModel(name, model, encoded, self.registry.settings, versions[model.name])
            for model in self.registry.models
            for name, encoded in ((model.name, False), (f"{model.name}_image", True))
        ]

    def find(self, name: str, version: str = "") -> InferenceModel:
        """The model of that name and version; where it is empty, the one that was loaded last.

        Raises:
            ApiError: 404.
        """
        return look_up(self.models, name, version)

    def ready(self, name: str, version: str = "") -> bool:
        """Whether that model can answer; ApiError 404 if there is none."""
        return self.find(name, version).model.ready and not self.registry.draining


def requested_outputs(names: Sequence[str]) -> Sequence[str]:
    """The outputs that a request names, each once; all where it names none.

    Raises:
        ApiError: 400, an output that no model has.
    """
    for name in names:
        if name not in OUTPUTS:
            raise invalid(f"no output {name!r}; there are {', '.join(OUTPUTS)}")
    return list(dict.fromkeys(names)) or OUTPUTS


def check_parameters(place: str, names: Collection[str]) -> None:
    """Refuse what Triton can do with an input or output, and this server can't.

    Raises:
        ApiError: 400.
    """
    if any(name.startswith("shared_memory_") for name in names):
        raise invalid(f"{place}: {NO_SHARED_MEMORY}")
    if "classification" in names:
        raise invalid(f"{place}: classification is not supported, for outputs are no classes; ask for the numbers")


def arrays(names: Sequence[str], result: EmbedResult) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The outputs of those names, float32, little-endian, `uncertainty` as [N, 1]."""
    for name in names:
        array = getattr(result.embeddings, name)
        yield name, np.ascontiguousarray(array.reshape(len(array), -1), "<f4")

"""The engine that the server runs, in this process, with nothing in between."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine, concatenate
from vssl.errors import UsageError
from vssl.images.decoding import DEFAULT_LIMITS
from vssl.memory import cores
from vssl.uncertainty.calibrated import apply_calibration
from vssl.uncertainty.familiarity import references_of
from vssl_client.errors import ImageRejected
from vssl_client.inputs import decode_all
from vssl_client.results.assembly import Numbers, Provenance, all_failed, filled
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult


class LocalEmbedder:
    """An `Embedder` over a bundle, on all cores.

    Of a small model each core decodes a few images and embeds them, while they are in its caches. A large one has all
    cores for a batch: each caller's thread decodes, one more thread runs the engine.

    Args:
        bundle: a verified bundle.
        threads: threads inside one call of the engine; 0 leaves the choice to ONNX Runtime.
        precision: which of the bundle's models to run; None: by the provider, as `vssl.engine.Engine` has it.
        max_bytes: encoded bytes of the largest image to decode.

    Raises:
        UsageError: onnxruntime is not installed, or the bundle has no such precision.
        BundleError: the model can't be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        precision: Precision | None = "fp32",
        max_bytes: int = DEFAULT_LIMITS.max_bytes,
    ) -> None:
        self.in_flight = cores() + 1
        self._manifest, self._max_bytes = bundle.manifest, max_bytes
        self._references = references_of(bundle)
        try:
            self._engine = Engine(bundle, threads, precision)
        except ModuleNotFoundError as error:
            raise UsageError(f"to embed in this process needs {error.name}: pip install 'vssl[server]'") from error
        # Not the caller's thread: it may be a daemon, and the process must not end while ONNX Runtime runs in one.
        self._threads = ThreadPoolExecutor(cores() if self._engine.divides else 1)

    def model(self) -> ModelInfo:
        """What the manifest says."""
        manifest, engine = self._manifest, self._engine
        return ModelInfo(
            manifest.name,
            manifest.version,
            manifest.id,
            engine.dimension,
            engine.size,
            manifest.preprocessing,
            encoder_id=manifest.encoder_id,
            precision=engine.precision,
        )

    def max_image_bytes(self) -> int:
        """The limit that it was made with."""
        return self._max_bytes

    def embed_batch(self, images: Sequence[bytes]) -> EmbeddingResult:
        """Decode and embed."""
        if not images or not self._engine.divides:
            pixels, errors = self._decoded(images)
            return self._result(errors, self._embedded(pixels))
        each = self._engine.part_of(len(images))
        some = [images[start : start + each] for start in range(0, len(images), each)]
        parts = list(self._threads.map(self._part, some))
        return self._result(
            [error for errors, _ in parts for error in errors], concatenate([part for _, part in parts])
        )

    def embed_pixels(self, pixels: npt.NDArray[np.uint8]) -> EmbeddingResult:
        """Embed images as the model takes them, uint8 [N, S, S, 3]."""
        return self._result([None] * len(pixels), self._embedded(pixels))

    def _decoded(self, images: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], list[ImageRejected | None]]:
        return decode_all(images, self._manifest.preprocessing, self._max_bytes)

    def _part(self, images: Sequence[bytes]) -> tuple[list[ImageRejected | None], Embeddings]:
        pixels, errors = self._decoded(images)
        return errors, self._engine.alone(pixels)

    def _embedded(self, pixels: npt.NDArray[np.uint8]) -> Embeddings:
        return self._threads.submit(self._engine, pixels).result()

    def _result(self, errors: list[ImageRejected | None], output: Embeddings) -> EmbeddingResult:
        by = Provenance(self._manifest.name, self._manifest.version, self._manifest.id)
        if not len(output):
            return all_failed(errors, by, self._engine.dimension)
        numbers = Numbers(output.embedding, output.variance, output.uncertainty)
        if self._manifest.calibration is not None:
            found = apply_calibration(self._manifest.calibration, output, self._references)
            numbers = replace(numbers, **{field.name: getattr(found, field.name) for field in fields(found)})
        return filled(errors, by, numbers)

    def close(self) -> None:
        """End the threads, and drop what waits for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

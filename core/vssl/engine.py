"""The one place that opens ONNX Runtime: pixels in, embeddings with their variance out.

The server, in-process embedding, verification and evaluation all call `Engine`, so their results agree. It is long
because nothing else may know ONNX Runtime.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np

from vssl.arrays import Float32s, Mask, Pixels
from vssl.batch_sizes import MAX_BATCH, batch_images, part_images
from vssl.bound import Bound
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle
from vssl.caches import CacheUnavailableError, cache_folder
from vssl.errors import BundleError, UsageError, VsslError
from vssl.memory import cores

OUTPUTS = ("embedding", "variance", "uncertainty")
FEATURES = "features"
"""The fourth output, of bundles that were exported with their backbone's features."""
log = logging.getLogger(__name__)

DIVIDED_BYTES = 32 << 20
"""The largest model whose batches are divided, as that takes a second session with its weights. With 45 MB of ResNet-18
nothing was gained."""
Call = Callable[[Sequence[str], Pixels], list[Any]]
"""Names of outputs and a batch → the outputs."""
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class Embeddings:
    """The model's outputs for N images, float32.

    `embedding` [N, D] of unit length, `variance` [N, D] on the same scale, `uncertainty` [N], higher is worse.
    """

    embedding: Float32s
    variance: Float32s
    uncertainty: Float32s

    def __len__(self) -> int:
        return len(self.uncertainty)

    def __getitem__(self, rows: slice | Mask) -> "Embeddings":
        return Embeddings(self.embedding[rows], self.variance[rows], self.uncertainty[rows])


def concatenate(parts: list[Embeddings]) -> Embeddings:
    """Join parts in order; at least one."""
    return Embeddings(*(np.concatenate([getattr(part, name) for part in parts]) for name in OUTPUTS))


class Engine:
    """A bundle's model in ONNX Runtime. One engine may be called from many threads.

    On processors a small model's batch is divided: each core computes a few images at a time. Several cores on the same
    operator of many images wait for each other, and for memory.

    Args:
        bundle: a verified bundle.
        threads: threads inside one call; 0: all cores.
        precision: which of the bundle's models to run; None: fp16 on a GPU where the bundle has it, else fp32.

    Raises:
        UsageError: onnxruntime and onnxruntime-gpu are both installed, or the bundle has no such precision.
        BundleError: the model can't be loaded, or is not what the manifest says.
    """

    def __init__(self, bundle: Bundle, threads: int = 0, precision: Precision | None = "fp32") -> None:
        check_precision(bundle, precision)
        self.precision = precision or default_precision(bundle)
        self._session = open_session(bundle, threads, self.precision)
        if precision is None and self.precision == "fp16" and "fp32" in bundle.manifest.models and not self.on_gpu:
            self.precision = "fp32"  # the wheel knows GPUs, but there is none
            self._session = open_session(bundle, threads, self.precision)
        self.size = bundle.manifest.preprocessing.size
        self.dimension = bundle.manifest.outputs.dimension
        self._features = bundle.manifest.outputs.features
        self._call = Bound(self._session, "cuda") if self.on_gpu else partial(run, self._session)
        self._check_signature(bundle)
        self.cores = threads or cores()
        """Threads inside one call."""
        self._divided: tuple[Call, ThreadPoolExecutor] | None = None
        size = bundle.manifest.files[bundle.manifest.models[self.precision].path].bytes
        if self.cores > 1 and not self.on_gpu and size <= DIVIDED_BYTES:
            one = partial(run, open_session(bundle, 1, self.precision))
            self._divided = one, ThreadPoolExecutor(self.cores, "engine part")

    @property
    def providers(self) -> list[str]:
        """The providers in use, not those asked for: ONNX Runtime falls back to the CPU without an error."""
        return list(self._session.get_providers())

    @property
    def on_gpu(self) -> bool:
        """Whether its batches go to a GPU and back; several threads may then have one each under way."""
        return self.providers[0] != PROVIDERS[-1]

    @property
    def divides(self) -> bool:
        """Whether a batch is divided, so that each core can as well take some images from their decoding on."""
        return self._divided is not None

    def part_of(self, images: int) -> int:
        """How many of so many images a core takes at a time, where batches are divided."""
        return part_images(self.size, images, self.cores)

    def alone(self, images: Pixels) -> Embeddings:
        """Embed uint8 images [N, size, size, 3], N ≥ 0, in the calling thread, where batches are divided.

        Raises:
            ValueError: another shape or type.
            VsslError: ONNX Runtime failed.
        """
        return self._embedded(images, alone=True)

    def __call__(self, images: Pixels) -> Embeddings:
        """Embed uint8 images [N, size, size, 3], N ≥ 0.

        Raises:
            ValueError: another shape or type.
            VsslError: ONNX Runtime failed.
        """
        return self._embedded(images)

    def _embedded(self, images: Pixels, alone: bool = False) -> Embeddings:
        self._check_images(images)
        if len(images) == 0:
            none = np.zeros((0, self.dimension), np.float32)
            return Embeddings(none, none, np.zeros(0, np.float32))
        return Embeddings(*self._run(OUTPUTS, images, alone))

    def features(self, images: Pixels) -> Float32s:
        """The backbone's features [N, F] of uint8 images [N, size, size, 3], N ≥ 0.

        Raises:
            UsageError: the bundle was exported without them.
            ValueError: another shape or type.
            VsslError: ONNX Runtime failed.
        """
        if self._features is None:
            raise UsageError("this bundle's model gives no features; export it again with --features")
        self._check_images(images)
        if len(images) == 0:
            return np.zeros((0, self._features), np.float32)
        features: Float32s = self._run([FEATURES], images)[0]
        return features

    def _check_images(self, images: Pixels) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (self.size, self.size, 3):
            raise ValueError(
                f"images are {images.dtype} {list(images.shape)}, not uint8 [N, {self.size}, {self.size}, 3]"
            )

    def _run(self, outputs: Sequence[str], images: Pixels, alone: bool = False) -> list[Any]:
        """Outputs for at least one image, a batch at a time, or in parts: side by side, or `alone` in this thread."""
        call: Call = self._call
        each, over = batch_images(self.size), map
        if self._divided is not None and (alone or len(images) > 1):
            (call, pool), each = self._divided, self.part_of(len(images))
            over = map if alone else pool.map  # type: ignore[assignment]  # it takes what `map` takes
        few = [images[start : start + each] for start in range(0, len(images), each)]
        try:
            parts = list(over(partial(call, outputs), few))
        except Exception as error:
            raise VsslError(f"ONNX Runtime failed on a batch of {len(images)} images: {error}") from error
        return parts[0] if len(parts) == 1 else [np.concatenate(values) for values in zip(*parts, strict=True)]

    def _check_signature(self, bundle: Bundle) -> None:
        def described(values: list[Any]) -> str:
            # The first dimension is the batch: any name will do, but a number would fix its size.
            shapes = [["N" if isinstance(n, str) else n for n in v.shape[:1]] + v.shape[1:] for v in values]
            return ", ".join(f"{value.name} {value.type} {shape}" for value, shape in zip(values, shapes, strict=True))

        try:
            found = f"{described(self._session.get_inputs())} → {described(self._session.get_outputs())}"
        except UnicodeDecodeError as error:
            raise BundleError(f"{bundle.location}: a name in the model is not text; export the bundle again") from error
        vector = f"tensor(float) ['N', {self.dimension}]"
        wanted = (
            f"image tensor(uint8) ['N', {self.size}, {self.size}, 3] → "
            f"embedding {vector}, variance {vector}, uncertainty tensor(float) ['N']"
            + ("" if self._features is None else f", {FEATURES} tensor(float) ['N', {self._features}]")
        )
        if found != wanted:
            raise BundleError(
                f"{bundle.location}: the model is {found}, the manifest promises {wanted}; export the bundle again"
            )


def run(session: Any, outputs: Sequence[str], images: Pixels) -> list[Any]:  # noqa: ANN401
    """Outputs of ONNX Runtime's session for N ≥ 1 images."""
    values: list[Any] = session.run(outputs, {"image": images})
    return values


def check_precision(bundle: Bundle, precision: Precision | None) -> None:
    """Refuse early what no engine can be opened with.

    Raises:
        UsageError: onnxruntime and onnxruntime-gpu are both installed, or the bundle has no such precision.
    """
    refuse_both_runtimes()
    models = bundle.manifest.models
    if precision not in (None, *models):
        raise UsageError(f"{bundle.location}: no model in {precision}; there are {', '.join(models)}")


def default_precision(bundle: Bundle) -> Precision:
    """What to try first where nobody says: fp16 where ONNX Runtime's wheel knows GPUs, if the bundle has it."""
    import onnxruntime

    models = bundle.manifest.models
    knows_gpus = bool(set(onnxruntime.get_available_providers()) & set(PROVIDERS[:-1]))
    return "fp16" if knows_gpus and "fp16" in models else "fp32" if "fp32" in models else next(iter(models))


def open_session(bundle: Bundle, threads: int, precision: Precision) -> Any:  # noqa: ANN401  (it has no types)
    """A session of the bundle's model in a precision; where TensorRT can't build its engine, on CUDA, with a warning.

    Raises:
        BundleError: the model can't be loaded.
    """
    import onnxruntime  # an optional extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A model may name further files for its weights. A bundle's never does, so let it find none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    # Waiting threads would otherwise spin on the cores that decode the next batch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    path = bundle.manifest.models[precision].path
    data = bundle.read(path)
    while True:
        providers = [(name, provider_options(name, bundle, precision)) for name in available]
        try:
            # Its own falling back writes to standard output, and hides that a call failed.
            return onnxruntime.InferenceSession(data, options, providers=providers, enable_fallback=0)
        except Exception as error:
            # ONNX Runtime's exceptions share no base class of their own.
            if available[0] != PROVIDERS[0]:
                raise BundleError(f"{bundle.location}: ONNX Runtime can't load {path}: {error}") from error
            first = str(error).partition("\n")[0]
            log.warning(
                "%s: TensorRT can't build an engine of %s, so it runs without: %s", bundle.location, path, first
            )
            del available[0]


def provider_options(provider: str, bundle: Bundle, precision: Precision) -> dict[str, str]:
    """Options of one of ONNX Runtime's providers for a bundle's model.

    TensorRT gets one engine for batches of 1 to `MAX_BATCH`, and keeps it in the user's cache: building takes minutes,
    loading none.
    """
    if provider != "TensorrtExecutionProvider":
        return {}
    size = bundle.manifest.preprocessing.size
    options = {
        f"trt_profile_{which}_shapes": f"image:{batch}x{size}x{size}x3"
        for which, batch in (("min", 1), ("opt", MAX_BATCH // 4), ("max", MAX_BATCH))
    }
    if precision == "fp16":  # otherwise TensorRT computes the same file in float32
        options["trt_fp16_enable"] = "1"
    weights = bundle.manifest.files[bundle.manifest.models[precision].path].sha256[:32]
    try:
        folder = cache_folder("engines", weights)  # private: an engine is code
    except CacheUnavailableError as error:
        log.warning("TensorRT builds its engine at every start, there is no cache: %s", error)
        return options
    for kept in ("engine", "timing"):
        options |= {f"trt_{kept}_cache_enable": "1", f"trt_{kept}_cache_path": str(folder)}
    return options


def refuse_both_runtimes() -> None:
    """Refuse two wheels that overwrite each other's files. Pip does not notice, and which one runs is chance.

    Raises:
        UsageError: both are installed.
    """
    with contextlib.suppress(PackageNotFoundError):
        distribution("onnxruntime"), distribution("onnxruntime-gpu")
        raise UsageError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install the one you want again"
        )

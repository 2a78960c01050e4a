"""An ONNX file → a TensorRT plan. The `tensorrt` module is a parameter, since it can be had where there is a GPU only.

Networks are strongly typed: the precision is that of the ONNX file, and no flag changes it.
"""

from dataclasses import dataclass
from typing import Any

from vssl.bundle.manifest import Plan, Precision
from vssl.errors import UsageError, VsslError

BATCHES = (1, 8, 32)
"""Least, best and largest batch of the optimisation profile."""


@dataclass(frozen=True)
class Built:
    """A serialised plan, and the timings that make the next build on the same kind of GPU fast."""

    plan: bytes
    timings: bytes


def build(trt: Any, data: bytes, size: int, timings: bytes = b"", capability: str | None = None) -> Built:  # noqa: ANN401
    """Build a plan for batches of `BATCHES` images uint8 [N, size, size, 3].

    Args:
        trt: the `tensorrt` module, or `tensorrt_rtx`.
        data: the ONNX file.
        size: side of the images.
        timings: of an earlier build, for the same version and GPU.
        capability: name in `trt.ComputeCapability` of a GPU that need not be here; `tensorrt_rtx` alone can do that.

    Raises:
        VsslError: TensorRT does not support an operator, which the message names, or can't build the network.
    """
    log = _log(trt)
    builder = trt.Builder(log)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # the only kind from version 11 on
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(data):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        nodes = [f"{error.node_name()} ({error.node_operator()}): {_line(error.desc())}" for error in errors]
        raise VsslError(f"TensorRT {trt.__version__} can't take the model's node {'; '.join(nodes)}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((batch, size, size, 3) for batch in BATCHES))
    if config.add_optimization_profile(profile) < 0:
        raise VsslError(f"TensorRT {trt.__version__} refuses the batches {BATCHES}: {log.last}")
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    cache = config.create_timing_cache(timings)
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise VsslError(f"TensorRT {trt.__version__} can't build the network: {log.last}")
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def describe(trt: Any, precision: Precision, capability: tuple[int, int]) -> Plan:  # noqa: ANN401
    """The manifest's entry of a plan: a plan runs on the version and compute capability that it was built for alone."""
    number = f"{capability[0]}{capability[1]}"
    return Plan(
        path=f"engines/model.{precision}.tensorrt-{trt.__version__}.sm{number}.plan",
        precision=precision,
        tensorrt=trt.__version__,
        compute_capability=f"{capability[0]}.{capability[1]}",
        batches=BATCHES,
    )


def this_gpu() -> tuple[Any, tuple[int, int]]:
    """The `tensorrt` module and the compute capability of the GPU here.

    Raises:
        UsageError: there is no GPU, or no TensorRT.
    """
    import torch

    if not torch.cuda.is_available():
        raise UsageError("--tensorrt needs a GPU: a plan is built on the kind of GPU that it will run on")
    try:
        import tensorrt  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError:
        raise UsageError("--tensorrt needs TensorRT, which is not installed: pip install tensorrt") from None
    return tensorrt, torch.cuda.get_device_capability()


def _log(trt: Any) -> Any:  # noqa: ANN401
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the last error instead of printing it."""

        def __init__(self) -> None:
            super().__init__()
            self.last = "it does not say why"

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = _line(message)

    return Log()


def _line(text: str) -> str:
    return " ".join(text.split())

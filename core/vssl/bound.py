"""How a batch gets to a GPU and back: a binding of ONNX Runtime, and what each thread keeps for each size of batch."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from vssl.arrays import Pixels
from vssl.batch_sizes import bucket


@dataclass(frozen=True)
class Kept:
    """Of one size of batch: its pixels on the host, uint8 [n, S, S, 3], and who owns that memory; the same on the
    device, and the binding to a session.
    """

    host: Pixels
    owner: Any
    device: Any
    binding: Any


class Bound:
    """A session that runs on a device. Any thread may call it, and two may have a batch each under way.

    For each new size CUDA searches for algorithms again, and TensorRT for kernels. So black images fill each batch up
    to the next power of two, which the server's warm-up has run.

    Args:
        session: ONNX Runtime's.
        device: as ONNX Runtime names it.
    """

    def __init__(self, session: Any, device: str) -> None:  # noqa: ANN401  (it has no types)
        self._session, self._device, self._threads = session, device, threading.local()

    def __call__(self, outputs: Sequence[str], images: Pixels) -> list[Any]:
        """Outputs for uint8 images [N, S, S, 3], N ≥ 1."""
        kept = self._kept(bucket(len(images)), images.shape[1:], tuple(outputs))
        kept.host[: len(images)] = images
        kept.host[len(images) :] = 0
        kept.device.update_inplace(kept.host)
        self._session.run_with_iobinding(kept.binding)
        # Copies: the next batch of this size is written to the same memory.
        return [np.array(values[: len(images)]) for values in kept.binding.copy_outputs_to_cpu()]

    def _kept(self, images: int, shape: tuple[int, ...], outputs: tuple[str, ...]) -> Kept:
        """What the calling thread keeps for a size of batch, made at its first."""
        if not hasattr(self._threads, "made"):
            self._threads.made = {}
        made: dict[tuple[int, tuple[str, ...]], Kept] = self._threads.made
        if (images, outputs) not in made:
            import onnxruntime

            device = onnxruntime.OrtValue.ortvalue_from_shape_and_type((images, *shape), np.uint8, self._device)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input("image", device)
            for name in outputs:
                binding.bind_output(name, "cpu")
            host, owner = on_host((images, *shape), self._session.get_providers()[0])
            made[images, outputs] = Kept(host, owner, device, binding)
        return made[images, outputs]


def on_host(shape: tuple[int, ...], provider: str) -> tuple[Pixels, Any]:
    """Memory of the host for pixels, and its owner: page-locked, which the provider's device reads by itself, where
    ONNX Runtime gives such.
    """
    import onnxruntime

    kinds: Any = getattr(onnxruntime, "OrtDeviceMemoryType", None)  # older releases have none
    for device in [] if kinds is None else onnxruntime.get_ep_devices():
        memory = device.memory_info(kinds.HOST_ACCESSIBLE) if device.ep_name == provider else None
        if memory is not None:
            # What a provider names it may still not give, in exceptions of its own.
            with suppress(Exception):
                value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, memory_info=memory)
                return value.numpy(), value
    return np.zeros(shape, np.uint8), None

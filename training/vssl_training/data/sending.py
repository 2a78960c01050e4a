"""Tensors on their way to a GPU."""

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device. From pinned memory to a GPU, so that the host does not wait for the copy."""
    if device.type != "cuda" or values.device == device:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)

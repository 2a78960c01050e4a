"""What memory has room for."""

import torch

from vssl.memory import memory_bytes


def free_memory(device: torch.device) -> int:
    """Bytes that a device has free; of a CPU, all that this process may use."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_bytes()

"""From pixels as they are stored to the floats that networks and views take."""

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 [N, S, S, 3] → float [N, 3, S, S] in 0 … 1."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)

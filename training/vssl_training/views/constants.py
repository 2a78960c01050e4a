"""Small tables of numbers on the device: copied there once, since each copy makes the host wait for a GPU."""

from functools import cache

import torch
from torch import Tensor

Table = tuple[float, ...] | tuple[tuple[float, ...], ...]


def constant(values: Table, like: Tensor) -> Tensor:
    """The table as a tensor on the device of another one, of its type."""
    return _copied(values, like.device, like.dtype)


@cache
def _copied(values: Table, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype)


def inverse(matrix: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """The inverse of a matrix, as a table."""
    inverted: list[list[float]] = torch.linalg.inv(torch.tensor(matrix, dtype=torch.float64)).tolist()
    return tuple(map(tuple, inverted))

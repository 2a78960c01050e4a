"""Tensors of the Open Inference Protocol, as JSON lists or as little-endian bytes, ↔ arrays and image files."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from vssl_server.batcher import Pixels
from vssl_server.decoding import Encoded
from vssl_server.errors import ApiError


@dataclass(frozen=True)
class Tensor:
    """An input as it was sent: `data` is its bytes, or its values in nested or flat lists."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: bytes | memoryview | Sequence[Any]


def invalid(message: str) -> ApiError:
    """400: the request is not what the protocol or the model's metadata say."""
    return ApiError(400, "invalid_tensor", message)


def to_pixels(tensor: Tensor, size: int) -> Pixels:
    """UINT8 [N, size, size, 3] → an array of that shape.

    Raises:
        ApiError: 400, another type or shape, or not as many values as the shape says.
    """
    shape = list(tensor.shape)
    if tensor.datatype != "UINT8" or len(shape) != 4 or shape[1:] != [size, size, 3]:
        raise invalid(f"{tensor.name} is {tensor.datatype} {shape}, not UINT8 [N, {size}, {size}, 3]")
    if isinstance(tensor.data, bytes | memoryview):
        values = np.frombuffer(tensor.data, np.uint8)
    else:
        values = _from_lists(tensor)
    _check_count(tensor, values.size)
    return values.reshape(shape)


def to_files(tensor: Tensor) -> list[Encoded]:
    """BYTES [N] or [N, 1] → the image files; from JSON they are texts: base64 or data URIs.

    Raises:
        ApiError: 400, another type or shape, or not as many elements as the shape says.
    """
    shape = list(tensor.shape)
    if tensor.datatype != "BYTES" or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise invalid(f"{tensor.name} is {tensor.datatype} {shape}, not BYTES [N, 1]")
    if isinstance(tensor.data, bytes | memoryview):
        files: list[Encoded] = list(split(tensor.name, tensor.data))
    else:
        values: list[Any] = []
        for row in tensor.data:
            values += row if isinstance(row, list) else [row]
        files = [value for value in values if isinstance(value, str | bytes)]
        if len(files) < len(values):
            raise invalid(f"{tensor.name}: BYTES in JSON are texts, base64 or data URIs")
    _check_count(tensor, len(files))
    return files


def split(name: str, data: bytes | memoryview) -> list[bytes]:
    """The elements of a BYTES tensor, of which each comes after its length in four bytes.

    Raises:
        ApiError: 400, the lengths don't add up.
    """
    elements: list[bytes] = []
    start = 0
    while start < len(data):
        stop = start + 4
        if stop <= len(data):
            (length,) = struct.unpack_from("<I", data, start)
            start, stop = stop, stop + length
        if stop > len(data):
            raise invalid(f"{name}: its {len(data):,} bytes end inside element {len(elements)}")
        elements.append(bytes(data[start:stop]))
        start = stop
    return elements


def _from_lists(tensor: Tensor) -> Pixels:
    # NumPy would make each text as long as the longest: a few hundred bytes of gzip would fill the memory.
    values = list(tensor.data)
    while any(isinstance(value, list) for value in values):
        if len({len(value) if isinstance(value, list) else -1 for value in values}) > 1:
            raise invalid(f"{tensor.name}: the lists of its data are not of one shape")
        values = list(chain.from_iterable(values))
    try:
        return np.frombuffer(bytes(values), np.uint8)
    except (TypeError, ValueError):
        raise invalid(f"{tensor.name}: UINT8 data are whole numbers from 0 to 255") from None


def _check_count(tensor: Tensor, found: int) -> None:
    if found != math.prod(tensor.shape):
        raise invalid(f"{tensor.name} has {found:,} values, its shape {list(tensor.shape)} asks for another number")

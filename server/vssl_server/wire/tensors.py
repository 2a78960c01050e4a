"""Numbers as they are sent: tensors of the Open Inference Protocol, in JSON or as bytes, arrays, rows in base64."""

import base64
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from vssl.arrays import Floats, Pixels
from vssl_server.wire.errors import ApiError
from vssl_server.wire.images import Encoded

NPY = "application/x-npy"
_UINT8S = re.compile(
    rb"\x93NUMPY\x01\x00(..)[{] *'descr': *'[|]u1', *'fortran_order': *False, *'shape': *"
    rb"[(](\d{1,9}), *(\d{1,9}), *(\d{1,9}), *(\d{1,9})[)] *,? *[}] *\n",
    re.DOTALL,
)
"""The head of a NumPy file of uint8 in four dimensions; NumPy's own reader would run it as Python."""


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


def images_in(tensor: Tensor, datatype: str, dims: Sequence[int]) -> int:
    """The number of images in a tensor by its shape, which must be [N, *dims].

    Raises:
        ApiError: 400, another type or shape.
    """
    shape = list(tensor.shape)
    # A list of texts may stand for a column of them.
    fits = shape[1:] == list(dims) or (datatype == "BYTES" and len(shape) == 1)
    if tensor.datatype != datatype or not fits or shape[0] < 0:
        wanted = ", ".join(map(str, ["N", *dims]))
        raise invalid(f"{tensor.name} is {tensor.datatype} {shape}, not {datatype} [{wanted}]")
    return int(shape[0])


def to_pixels(tensor: Tensor, size: int) -> Pixels:
    """UINT8 [N, size, size, 3] → an array of that shape.

    Raises:
        ApiError: 400, another type or shape, or not as many values as the shape says.
    """
    images = images_in(tensor, "UINT8", [size, size, 3])
    if isinstance(tensor.data, bytes | memoryview):
        values = np.frombuffer(tensor.data, np.uint8)
    else:
        values = _from_lists(tensor)
    if values.size != images * size * size * 3:
        raise _miscounted(tensor, values.size)
    return values.reshape(images, size, size, 3)


def from_npy(data: bytes) -> Pixels:
    """A NumPy file of version 1 → uint8 [N, H, W, 3], without a copy.

    Raises:
        ApiError: 422, it is something else, or not as long as it says.
    """
    head = _UINT8S.match(data)
    if head is None or int.from_bytes(head[1], "little") != head.end() - 10:
        message = f"{NPY} must hold what numpy.save writes of one array of uint8, [N, S, S, 3]"
        raise ApiError(422, "invalid_pixels", message, param="images")
    shape = tuple(map(int, head.groups()[1:]))
    values = memoryview(data)[head.end() :]
    if math.prod(shape) != len(values):
        message = f"{len(values):,} bytes of pixels do not fill the shape {list(shape)}"
        raise ApiError(422, "invalid_pixels", message, param="images")
    return np.frombuffer(values, np.uint8).reshape(shape)


def check_size(pixels: Pixels, size: int) -> None:
    """Refuse pixels [N, H, W, 3] that are not those of a model of `size` × `size` (ApiError 422)."""
    if pixels.shape[1:] != (size, size, 3):
        message = f"the pixels are {list(pixels.shape)}, but this model looks at [N, {size}, {size}, 3]"
        raise ApiError(422, "invalid_pixels", message, param="images")


def to_files(tensor: Tensor) -> list[Encoded]:
    """BYTES [N] or [N, 1] → the image files; from JSON they are texts: base64 or data URIs.

    Raises:
        ApiError: 400, another type or shape, or not as many elements as the shape says.
    """
    images = images_in(tensor, "BYTES", [1])
    found: Iterator[Any]
    if isinstance(tensor.data, bytes | memoryview):
        found = split(tensor.name, tensor.data)
    else:
        found = (value for row in tensor.data for value in (row if isinstance(row, list) else [row]))
    # One more than expected shows that there are too many.
    files = list(islice(found, images + 1))
    if not all(isinstance(file, str | bytes) for file in files):
        raise invalid(f"{tensor.name}: BYTES in JSON are texts, base64 or data URIs")
    if len(files) != images:
        raise _miscounted(tensor, len(files))
    return files


def split(name: str, data: bytes | memoryview) -> Iterator[bytes]:
    """The elements of a BYTES tensor, of which each comes after its length in four bytes.

    Raises:
        ApiError: 400, the lengths don't add up.
    """
    start, count = 0, 0
    while start < len(data):
        stop = start + 4
        if stop <= len(data):
            (length,) = struct.unpack_from("<I", data, start)
            start, stop = stop, stop + length
        if stop > len(data):
            raise invalid(f"{name}: its {len(data):,} bytes end inside element {count}")
        yield bytes(data[start:stop])
        start, count = stop, count + 1


def base64_rows(rows: Floats, dtype: str) -> list[str]:
    """Each row of [N, D] in base64, as little-endian numbers: `dtype` is `<f4` or `<f2`."""
    return [base64.b64encode(row).decode() for row in rows.astype(dtype)]


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


def _miscounted(tensor: Tensor, found: int) -> ApiError:
    return invalid(f"{tensor.name} has {found:,} values, its shape {list(tensor.shape)} asks for another number")

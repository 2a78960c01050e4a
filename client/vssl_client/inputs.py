"""Images in every form that a caller can give → one encoded image → pixels, decoded like any file."""

import binascii
import os
import time
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from vssl.images.decoding import DEFAULT_LIMITS, ImageError, Preprocessing, decode, load_rgb
from vssl.sources.source import limited
from vssl_client.errors import ImageRejected


@runtime_checkable
class OpenFile(Protocol):
    """A file opened in binary mode; it is read from its current position."""

    def read(self) -> bytes:
        """The rest of the file."""


@runtime_checkable
class Tensor(Protocol):
    """A torch tensor, without an import of torch."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""

    def detach(self) -> Any:  # noqa: ANN401 — a tensor
        """The tensor without its gradient."""


ImageInput = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | OpenFile | Image.Image | npt.NDArray[Any] | Tensor
)
"""A path, a data URL, an encoded image, an open file, a PIL image, or pixels.

Pixels are uint8, or floats in 0 … 1: grey, RGB or RGBA; numpy's [H, W] or [H, W, C], torch's [H, W] or [C, H, W].
"""


class Pixmap(bytes):
    """A file made here from pixels, uncompressed: compression would only take time."""


Snapshot = str | os.PathLike[str] | bytes | Pixmap | ImageError | OSError
"""An image as it was when the iterator gave it: a path, a file's bytes, or why there are none."""


def check_list(images: Iterable[ImageInput]) -> None:
    """Refuse a single image in place of a list: a path would be taken letter by letter."""
    single = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, OpenFile))
    if single or (isinstance(images, (np.ndarray, Tensor)) and images.ndim != 4):
        raise TypeError("give a list of images (or another iterable of them), not a single one")


def is_light(image: ImageInput) -> bool:
    """Whether `snapshot` is instant, with nothing to copy, read or decode."""
    return isinstance(image, (bytes, os.PathLike)) or (isinstance(image, str) and not image.startswith("data:"))


def snapshot(image: ImageInput, index: int) -> Snapshot:
    """The image as it is now: an iterator may reuse its array or its image object for the next one.

    Raises:
        TypeError: it has none of the accepted forms.
    """
    if isinstance(image, str) and image.startswith("data:"):
        return _of_data_url(image)
    if isinstance(image, (str, bytes, os.PathLike)):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    try:
        if isinstance(image, Image.Image):
            own = _own_file(image)
            return _pixmap(load_rgb(image)) if own is None else own
        if isinstance(image, (np.ndarray, Tensor)):
            return _pixmap(load_rgb(Image.fromarray(_uint8(image, index))))
        if isinstance(image, OpenFile):
            data = image.read()
            if isinstance(data, bytes):
                return data
            raise TypeError(f"image {index} is a file opened as text; open it with mode 'rb'")
    except (ImageError, OSError) as error:
        return error
    raise TypeError(
        f"image {index} is a {type(image).__name__}; give a path, a data URL, bytes, an open file, a PIL image, a "
        "numpy array or a torch tensor"
    )


def weight(image: Snapshot) -> int:
    """Its bytes in memory now; a path takes none until it is read."""
    return len(image) if isinstance(image, bytes) else 0


def name_of(image: ImageInput | Snapshot) -> str | None:
    """The path of an image that came as one, else None."""
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else None


def encoded(image: Snapshot, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: it is over the limit of bytes, or `snapshot` found it broken.
        OSError: the file can't be read.
    """
    if isinstance(image, (ImageError, OSError)):
        raise image
    if isinstance(image, bytes):
        return image
    with Path(image).open("rb") as file:
        return limited(file.read(max_bytes + 1), max_bytes)


def decode_all(
    images: Sequence[bytes], preprocessing: Preprocessing, max_bytes: int = DEFAULT_LIMITS.max_bytes
) -> tuple[npt.NDArray[np.uint8], list[ImageRejected | None]]:
    """Pixels uint8 [M, S, S, 3] of the images that can be decoded; and for each of the N images its error, or None.

    A Pixmap may be over `max_bytes`.
    """
    pixels = np.empty((len(images), preprocessing.size, preprocessing.size, 3), np.uint8)
    errors: list[ImageRejected | None] = []
    good, limits = 0, replace(DEFAULT_LIMITS, max_bytes=max_bytes)
    for image in images:
        own = replace(limits, max_bytes=len(image)) if isinstance(image, Pixmap) else limits
        try:
            pixels[good] = decode(image, preprocessing, own)
            errors.append(None)
            good += 1
        except ImageError as error:
            errors.append(ImageRejected(error.type, str(error)))
    return pixels[:good], errors


def decoding_seconds(image: bytes, preprocessing: Preprocessing) -> float:
    """How long it takes to decode an image here."""
    started = time.perf_counter()
    decode_all([image], preprocessing, len(image))
    return time.perf_counter() - started


def _own_file(image: Image.Image) -> bytes | None:
    """The file of a picture that was opened and not changed yet; None of any other picture."""
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None
    if file is None or not image.tile or getattr(image, "is_animated", False):  # type: ignore[attr-defined]
        return None
    position = file.tell()
    file.seek(0)
    data = file.read(DEFAULT_LIMITS.max_bytes + 1)
    file.seek(position)
    return data if len(data) <= DEFAULT_LIMITS.max_bytes else None


def _pixmap(rgb: Image.Image) -> Pixmap:
    return Pixmap(b"P6 %d %d 255\n" % rgb.size + rgb.tobytes())


def _uint8(pixels: npt.NDArray[Any] | Tensor, index: int) -> npt.NDArray[np.uint8]:
    """Pixels as pillow takes them: uint8 [H, W], [H, W, 3] or [H, W, 4].

    Raises:
        TypeError: they are not a picture; the message says what is wanted.
    """
    if isinstance(pixels, np.ndarray):
        array, kind, wanted, channels = pixels, "an array", "[H, W] or [H, W, C]", -1
    else:
        tensor = pixels.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # numpy knows no bfloat16
        kind, wanted, channels = "a tensor", "[H, W] or [C, H, W]", 0
    shape = " × ".join(map(str, array.shape))
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[channels] not in (1, 3, 4)):
        raise TypeError(f"image {index} is {kind} of {array.dtype}, {shape}; it must be {wanted} with C = 1, 3 or 4")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise TypeError(f"image {index} is {kind} of {array.dtype}, {shape}; it must be uint8, or floats in 0 … 1")
    if array.dtype.kind == "f":
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):
            raise TypeError(
                f"image {index} is {kind} of {array.dtype} from {low:g} to {high:g}; floats must lie in 0 … 1, "
                "with no normalisation"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.ndim == 3:
        array = np.moveaxis(array, channels, -1)
        array = array[..., 0] if array.shape[2] == 1 else array
    return np.ascontiguousarray(array)


def _of_data_url(url: str) -> bytes | ImageError:
    head, comma, text = url.partition(",")
    if not comma or not head.endswith(";base64"):
        return ImageError("not_an_image", "a data URL must look like data:image/png;base64,…")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        return ImageError("not_an_image", f"the data URL holds no base64: {error}")

"""The ONNX file of every precision that a bundle is to hold."""

from collections.abc import Collection

import numpy as np
from torch import nn

from vssl.arrays import Pixels
from vssl.bundle.manifest import Precision
from vssl.errors import UsageError
from vssl_export.model.half_weights import with_half_weights
from vssl_export.model.onnx_file import without_features
from vssl_export.model.precisions import to_half, to_int8

CALIBRATION_IMAGES = 512
FLOAT_BYTES, MOST_BYTES = 4, 2**31 - 2**24
"""Of a weight, and of all of them: protobuf ends at 2 GiB, and the graph needs some of it."""


def fits_one_file(network: nn.Module) -> None:
    """Refuse what an ONNX file can't hold, before minutes are spent on it.

    Raises:
        UsageError: its weights are over 2 GB, beyond which they would have to lie in files beside the model.
    """
    size = sum(tensor.numel() for tensor in network.state_dict().values()) * FLOAT_BYTES
    if size > MOST_BYTES:
        raise UsageError(
            f"the network's weights are {size / 1e9:.1f} GB in float32, and an ONNX file of one piece holds "
            f"{MOST_BYTES / 1e9:.1f} GB; take a smaller backbone"
        )


def convert(
    fp32: bytes,
    precisions: Collection[Precision],
    images: Pixels,
    features: bool = False,
    half_weights: bool = False,
) -> dict[Precision, bytes]:
    """The ONNX file of each precision, fp32 first, with or without the features; the images calibrate int8.

    With `half_weights` fp32's weights are stored as float16.
    """
    contents: dict[Precision, bytes] = {"fp32": fp32}
    if "fp16" in precisions:
        contents["fp16"] = to_half(fp32)
    if "int8" in precisions:
        spread = np.linspace(0, len(images) - 1, min(CALIBRATION_IMAGES, len(images))).astype(int)
        contents["int8"] = to_int8(fp32, images[spread])
    if not features:
        contents = {precision: without_features(content) for precision, content in contents.items()}
    if half_weights:
        contents["fp32"] = with_half_weights(contents["fp32"])
    return contents

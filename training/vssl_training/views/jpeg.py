"""JPEG's block artefacts on a whole batch, each image at a quality of its own: two small matrices and a rounding.

ITU-T T.81, Annexes A and K, with the colours of JFIF and chroma at half resolution, as pillow writes it: 8×8 blocks,
their cosine transform, division by a table, rounding, and back. Entropy coding loses nothing and is left out.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vssl_training.views.constants import constant, inverse

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Table K.1, at quality 50."""
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99, 99, 99, 99, 99, 99, 99, 99),) * 4,
)
"""Table K.2."""
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = inverse(YCBCR)


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """Images [N, 3, S, S] in 0 … 1 as JPEG at `quality` [N] (1 … 99) gives them back; 100 leaves an image as it is."""
    size = images.shape[-1]
    # Blocks of 16 pixels: eight of the halved chroma. Borders repeat their last pixel, as the encoder has it.
    padded = F.pad(images * 255, (0, -size % 16, 0, -size % 16), mode="replicate")
    planes = torch.einsum("ij,njhw->nihw", constant(YCBCR, images), padded)
    luma = quantised(planes[:, :1] - 128, LUMINANCE, quality) + 128
    halved = quantised(F.avg_pool2d(planes[:, 1:], 2), CHROMINANCE, quality)
    chroma = F.interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False)
    decoded = torch.einsum("ij,njhw->nihw", constant(TO_RGB, images), torch.cat([luma, chroma], 1))
    decoded = decoded[..., :size, :size].round_().div_(255).clamp_(0, 1)
    return torch.where((quality < 100)[:, None, None, None], decoded, images)


def quantised(planes: Tensor, table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Planes [N, C, H, W], H and W multiples of 8, through the cosine transform, rounding to the table, and back."""
    count, channels, height, width = planes.shape
    cosines = cosine_matrix(planes.device)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = ((constant(table, planes) * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)
    blocks = planes.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    steps = steps[:, None, None, None]
    coefficients = (cosines @ blocks @ cosines.T / steps).round() * steps
    return (cosines.T @ coefficients @ cosines).transpose(3, 4).reshape(planes.shape)


def cosine_matrix(device: torch.device) -> Tensor:
    """The orthonormal DCT-II of eight points [8, 8], a row a frequency."""
    rows = torch.arange(8, device=device)[:, None]
    columns = torch.arange(8, device=device)[None]
    matrix = torch.cos((2 * columns + 1) * rows * math.pi / 16) / 2
    return torch.where(rows == 0, math.sqrt(1 / 8), matrix)

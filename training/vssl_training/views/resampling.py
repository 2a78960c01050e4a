"""Crops, flips, blurs and changes of size as matrices, one pair an image.

Each of these acts on rows and on columns alone, so for an image X [S, S] it is V X Hᵀ with two small matrices. Whole
chains multiply into one pair, and a batch is two batched matrix products, whatever was drawn for each image.

Vectors of N draws are shaped [N]; a matrix is [N, O, S], row i holding the weights that make output pixel i of O (most
often S). Every row sums to 1, so borders are handled by weighting what is there.
"""

import torch
from torch import Tensor


def apply(images: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """V X Hᵀ for each channel of images [N, C, S, S] → [N, C, O, O]."""
    count, channels, height, width = images.shape
    # Rows lead while V acts, columns trail while H acts: one matrix product an image each, all channels in it.
    rows = torch.bmm(vertical, images.transpose(1, 2).reshape(count, height, channels * width))
    columns = torch.bmm(rows.view(count, -1, width), horizontal.mT)
    return columns.view(count, -1, channels, columns.shape[-1]).transpose(1, 2)


def crop_matrix(
    start: Tensor, length: Tensor, source: int, mirrored: Tensor | None = None, size: int | None = None
) -> Tensor:
    """Bilinear weights that scale the window [start, start + length) (parts of the side) of `source` pixels to `size`.

    `mirrored` [N] (bool) turns the window around; `size` is the source's by default. A window that shrinks is averaged
    over the pixels that fall together, as pillow and torchvision do with antialiasing.
    """
    size = size or source
    centres = (torch.arange(size, device=start.device) + 0.5) / size
    if mirrored is not None:
        centres = torch.where(mirrored[:, None], 1 - centres, centres)
    positions = (start[:, None] + length[:, None] * centres) * source
    shrink = (length * source / size).clamp(min=1)
    return _tents(positions, source, shrink)


def resized(images: Tensor, size: int) -> Tensor:
    """Whole images [N, C, S, S] at another size, [N, C, size, size]."""
    one = images.new_ones(1)
    matrix = crop_matrix(one - 1, one, images.shape[-1], size=size).expand(len(images), -1, -1)
    return apply(images, matrix, matrix)


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Gaussian weights with `sigma` as a part of the side; 0 leaves the image as it is."""
    pixels = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    offsets = pixels[None, :] - pixels[:, None]
    width = (sigma * size).clamp(min=1e-2)[:, None, None]
    return _rows_to_one(torch.exp(-0.5 * (offsets / width).square()))


def low_resolution_matrix(cells: Tensor, size: int) -> Tensor:
    """Average `size` pixels into `cells` [N] (whole numbers, 1 … size) equal cells, and scale them up bilinearly."""
    cells = cells[:, None, None].to(torch.float32)
    pixel = torch.arange(size, device=cells.device, dtype=torch.float32)
    edge = pixel[:, None] * size / cells
    overlap = torch.minimum(pixel + 1, edge + size / cells) - torch.maximum(pixel, edge)
    down = overlap.clamp(min=0) * cells / size
    positions = (pixel + 0.5) * cells[:, :, 0] / size
    inside = pixel[None, None, :] < cells
    up = _rows_to_one((1 - (pixel + 0.5 - positions[:, :, None]).abs()).clamp(min=0) * inside)
    return up @ down


def _tents(positions: Tensor, size: int, reach: Tensor) -> Tensor:
    """Triangle weights of the centres of `size` pixels around positions [N, O], `reach` [N] to each side, in pixels."""
    centres = torch.arange(size, device=positions.device) + 0.5
    distances = (centres - positions[:, :, None]).abs_()
    return _rows_to_one(distances.div_(reach[:, None, None]).neg_().add_(1).clamp_(min=0))


def _rows_to_one(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)

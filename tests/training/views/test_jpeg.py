"""Batched JPEG against pillow's, and the transform against scipy's."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dct

from tests.core.samples import fashion, noise
from vssl_training.views.jpeg import compress, cosine_matrix
from vssl_training.views.pixels import to_float


def smooth(count: int, side: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Colours that change slowly, and one sharp edge."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)) for _ in range(count)]
    images = np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in coarse]).copy()
    images[:, : side // 3, : side // 2] //= 2
    return images


def test_transform_is_scipys() -> None:
    signal = np.random.default_rng(0).normal(size=8)
    ours = cosine_matrix(torch.device("cpu")).double().numpy() @ signal
    np.testing.assert_allclose(ours, dct(signal, norm="ortho"), atol=1e-6)


@pytest.mark.parametrize("quality", [5, 15, 40, 75])
@pytest.mark.parametrize("side", [32, 40])
def test_images_come_back_as_from_pillow(quality: int, side: int) -> None:
    images = np.concatenate([fashion(4, side), smooth(4, side)])
    decoded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file).convert("RGB")))
    ours = compress(to_float(torch.from_numpy(images)), torch.full((8,), float(quality)))
    off = np.abs(ours.permute(0, 2, 3, 1).numpy() * 255 - np.stack(decoded))
    loss = np.abs(images.astype(float) - np.stack(decoded)).mean()
    # Chroma is brought back to full size by other filters, and libjpeg's transforms are of whole numbers.
    assert off.mean() < 0.25 * loss
    assert np.median(off) <= 1


def test_each_image_has_its_own_quality_and_100_is_untouched() -> None:
    images = to_float(torch.from_numpy(np.stack([noise(32, 32, seed) for seed in range(3)])))
    mixed = compress(images, torch.tensor([10.0, 100.0, 60.0]))
    torch.testing.assert_close(mixed[1], images[1], atol=0, rtol=0)
    for row, quality in ((0, 10.0), (2, 60.0)):
        alone = compress(images[row : row + 1], torch.tensor([quality]))
        torch.testing.assert_close(mixed[row : row + 1], alone, atol=1e-6, rtol=0)
    assert (mixed[0] - images[0]).abs().mean() > (mixed[2] - images[2]).abs().mean() > 0

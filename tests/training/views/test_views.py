"""Batched augmentation against torchvision and pillow on single images, and its statistics over many draws."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as tv

from vssl_training.recipe.sections import DegradationSettings, SmallCropSettings, ViewSettings
from vssl_training.views.degrading import degraded_view, occlude
from vssl_training.views.draws import Draws
from vssl_training.views.pixels import to_float
from vssl_training.views.resampling import apply, blur_matrix, crop_matrix, low_resolution_matrix
from vssl_training.views.two_views import change_colours, crop_and_flip, hue_matrix, small_views, two_views

SIZE = 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """Smooth random colour images, so that interpolation is well defined."""
    small = torch.rand(6, 3, 8, 8, generator=generator())
    return torch.nn.functional.interpolate(small, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)


def vector(*values: float) -> Tensor:
    return torch.tensor(values)


def test_to_float_is_torchvisions() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    expected = torch.stack([tv.to_tensor(image) for image in pixels])
    torch.testing.assert_close(to_float(torch.from_numpy(pixels)), expected)


def test_crop_is_torchvisions_bilinear_crop(images: Tensor) -> None:
    top, left, side = 4, 10, 16
    vertical = crop_matrix(vector(top / SIZE).expand(6), vector(side / SIZE).expand(6), SIZE)
    horizontal = crop_matrix(vector(left / SIZE).expand(6), vector(side / SIZE).expand(6), SIZE)
    ours = apply(images, vertical, horizontal)
    theirs = tv.resized_crop(images, top, left, side, side, [SIZE, SIZE], antialias=False)
    # Torchvision does not see beyond the window, ours does: only the outermost pixels may differ.
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_crop_that_shrinks_is_torchvisions_antialiased_crop(images: Tensor) -> None:
    size = 12
    whole = crop_matrix(torch.zeros(6), torch.ones(6), SIZE, size=size)
    theirs = tv.resize(images, [size, size], antialias=True)
    torch.testing.assert_close(apply(images, whole, whole), theirs, atol=1e-5, rtol=0)


def test_views_have_the_size_of_the_recipe(images: Tensor) -> None:
    assert two_views(images, ViewSettings(size=24), generator()).shape == (12, 3, 24, 24)


def test_mirrored_crop_is_the_flipped_crop(images: Tensor) -> None:
    start, length = torch.rand(6, generator=generator()) * 0.4, vector(0.5).expand(6)
    plain = crop_matrix(start, length, SIZE)
    mirrored = crop_matrix(start, length, SIZE, torch.ones(6, dtype=torch.bool))
    identity = torch.eye(SIZE).expand(6, -1, -1)
    torch.testing.assert_close(apply(images, identity, mirrored), apply(images, identity, plain).flip(-1))


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1])
def test_blur_is_torchvisions_inside_the_border(images: Tensor, sigma: float) -> None:
    matrix = blur_matrix(vector(sigma).expand(6), SIZE)
    ours = apply(images, matrix, matrix)
    theirs = tv.gaussian_blur(images, [31, 31], [sigma * SIZE])
    border = int(np.ceil(4 * sigma * SIZE))
    inside = slice(border, SIZE - border)
    torch.testing.assert_close(ours[..., inside, inside], theirs[..., inside, inside], atol=2e-3, rtol=0)


def test_no_blur_and_full_crop_and_all_cells_leave_images_alone(images: Tensor) -> None:
    zero, one = torch.zeros(6), torch.ones(6)
    for matrix in (blur_matrix(zero, SIZE), crop_matrix(zero, one, SIZE), low_resolution_matrix(one * SIZE, SIZE)):
        torch.testing.assert_close(apply(images, matrix, matrix), images, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cells", [1, 5, 8, 16, 31])
def test_low_resolution_is_an_exact_average_scaled_up_as_pillow_does(images: Tensor, cells: int) -> None:
    matrix = low_resolution_matrix(vector(cells).expand(6), SIZE)
    ours = apply(images, matrix, matrix)
    for channel, result in zip(images[0].numpy(), ours[0].numpy(), strict=True):
        # Every pixel cut into cells × cells pieces, every cell the mean of whole pieces: areas without rounding.
        pieces = channel.repeat(cells, 0).repeat(cells, 1)
        small = pieces.reshape(cells, SIZE, cells, SIZE).mean((1, 3))
        expected = Image.fromarray(small, "F").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(result, np.asarray(expected), atol=1e-5)


def test_each_image_has_its_own_parameters_and_a_seed_repeats_them(images: Tensor) -> None:
    same = images[:1].expand(6, -1, -1, -1)
    views = two_views(same, ViewSettings(), generator(1))
    assert len({tuple(view.flatten()[:50].tolist()) for view in views}) == 12
    torch.testing.assert_close(views, two_views(same, ViewSettings(), generator(1)), atol=0, rtol=0)
    assert not torch.equal(views, two_views(same, ViewSettings(), generator(2)))


def test_views_keep_the_order_of_their_images() -> None:
    levels = (torch.arange(8) / 10).view(8, 1, 1, 1).expand(8, 3, SIZE, SIZE)
    plain = ViewSettings(jitter=0, grey=0)
    means = two_views(levels, plain, generator()).mean((1, 2, 3))
    torch.testing.assert_close(means, (torch.arange(8) / 10).repeat(2))


def test_crops_cover_the_asked_areas_evenly() -> None:
    ramp = torch.linspace(0, 1, SIZE).view(1, 1, 1, SIZE).expand(4_000, 3, SIZE, SIZE)
    cropped = crop_and_flip(ramp, (0.25, 1.0), 0.5, Draws(generator(), 4_000))
    slope = cropped[:, 0, 0, 20] - cropped[:, 0, 0, 10]
    flipped = (slope < 0).float().mean()
    assert 0.46 < flipped < 0.54
    width = slope.abs() / (10 / (SIZE - 1))
    assert 0.4 < width.min() < 0.5  # √(.25 · ¾) = .43
    assert width.max() <= 1 + 1e-5
    centre = cropped[:, 0, 0, SIZE // 2 - 1 : SIZE // 2 + 1].mean(1)
    assert abs(centre.mean() - 0.5) < 0.02


def test_colours_follow_torchvision_one_change_at_a_time() -> None:
    dark = torch.rand(1, 3, SIZE, SIZE, generator=generator()) * 0.3 + 0.3  # nothing reaches the clipping
    count = 400
    for change, adjust in (
        ("brightness", tv.adjust_brightness),
        ("contrast", tv.adjust_contrast),
        ("saturation", tv.adjust_saturation),
    ):
        settings = ViewSettings(jitter=1, grey=0, brightness=0, contrast=0, saturation=0, hue=0)
        settings = settings.model_copy(update={change: 0.4})
        changed = change_colours(dark.expand(count, -1, -1, -1), settings, Draws(generator(3), count))
        weakest, strongest = adjust(dark, 0.6), adjust(dark, 1.4)
        # Each draw is the mix of the two extremes that torchvision would give for one factor.
        direction = (strongest - weakest).flatten()
        factors = ((changed - weakest).flatten(1) @ direction) / (direction @ direction)
        expected = weakest + factors.view(-1, 1, 1, 1) * (strongest - weakest)
        torch.testing.assert_close(changed, expected, atol=2e-3, rtol=0)
        assert factors.min() < 0.05, change
        assert factors.max() > 0.95, change
        assert factors.min() > -1e-3, change
        assert factors.max() < 1 + 1e-3, change


def test_grey_is_torchvisions_grey(images: Tensor) -> None:
    settings = ViewSettings(jitter=0, grey=1)
    ours = change_colours(images, settings, Draws(generator(), 6))
    torch.testing.assert_close(ours, tv.rgb_to_grayscale(images, 3), atol=2e-3, rtol=0)


def test_hue_turns_colours_and_leaves_grey_and_luma() -> None:
    angle = torch.linspace(-3, 3, 9)
    matrices = hue_matrix(angle, torch.ones(9))
    white = torch.ones(3)
    torch.testing.assert_close(matrices @ white, white.expand(9, 3), atol=2e-3, rtol=0)
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(luma @ matrices, luma.expand(9, 3), atol=2e-3, rtol=0)
    torch.testing.assert_close(matrices[4], torch.eye(3), atol=1e-5, rtol=0)
    there_and_back = hue_matrix(-angle, torch.ones(9)) @ matrices
    torch.testing.assert_close(there_and_back, torch.eye(3).expand(9, 3, 3), atol=1e-4, rtol=0)


def test_occlusion_covers_the_asked_area(images: Tensor) -> None:
    for area in (0.0, 0.25, 0.6):
        covered = occlude(images + 2, torch.full((6,), area), Draws(generator(), 6))
        share = (covered <= 1).all(1).float().mean((1, 2))
        torch.testing.assert_close(share, torch.full((6,), area), atol=0.05, rtol=0)


def test_degradations_leave_some_images_clean_and_degrade_others() -> None:
    images = torch.rand(2_000, 3, SIZE, SIZE, generator=generator())
    settings = DegradationSettings()
    views, struck = degraded_view(images, settings, generator(1))
    assert views.min() >= 0
    assert views.max() <= 1
    changed = (views - images).abs().amax((1, 2, 3)) >= 0.6 / 255
    assert abs((~changed).float().mean() - (1 - settings.probability) ** 7) < 0.03
    assert struck[changed].all()
    assert changed[struck].float().mean() > 0.98  # a strike may be too weak to change a pixel
    again = degraded_view(images, settings, generator(1))
    torch.testing.assert_close(again, (views, struck), atol=0, rtol=0)


def test_no_probability_means_no_degradation() -> None:
    images = torch.rand(50, 3, SIZE, SIZE, generator=generator())
    views, struck = degraded_view(images, DegradationSettings(probability=0), generator())
    torch.testing.assert_close(views, images, atol=0.501 / 255, rtol=0)
    assert not struck.any()


def test_small_views_are_crops_of_the_asked_size_and_area() -> None:
    ramp = torch.linspace(0, 1, SIZE).view(1, 1, 1, SIZE).expand(500, 3, SIZE, SIZE)
    settings = ViewSettings(jitter=0, grey=0, small_crops=SmallCropSettings(count=3, size=16, crop=(0.1, 0.2)))
    views = small_views(ramp, settings, generator())
    assert views.shape == (1_500, 3, 16, 16)
    width = (views[:, 0, 0, 10] - views[:, 0, 0, 5]).abs() / (5 / 16) * (SIZE - 1) / SIZE
    assert 0.24 < width.min() < 0.32  # √(.1 · ¾) = .27
    assert 0.44 < width.max() < 0.53  # √(.2 · 4/3) = .52


def test_solarised_views_are_torchvisions_and_only_the_second(images: Tensor) -> None:
    plain = ViewSettings(jitter=0, grey=0)
    first, second = two_views(images, plain, generator(1)).chunk(2)
    ours = two_views(images, plain.model_copy(update={"solarise": (0.0, 1.0)}), generator(1)).chunk(2)
    torch.testing.assert_close(ours[0], first)
    torch.testing.assert_close(ours[1], tv.solarize(second, 0.5))


def test_blur_strikes_each_view_with_its_own_chance(images: Tensor) -> None:
    plain = ViewSettings(jitter=0, grey=0, blur=(1.0, 0.0), blur_sigma=(0.05, 0.05))
    sharp = ViewSettings(jitter=0, grey=0, blur=(0.0, 1e-9), blur_sigma=(0.05, 0.05))
    ours, reference = (two_views(images, settings, generator(1)).chunk(2) for settings in (plain, sharp))
    torch.testing.assert_close(ours[1], reference[1])
    expected = tv.gaussian_blur(reference[0], [31, 31], [0.05 * SIZE])
    torch.testing.assert_close(ours[0][..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], atol=2e-3, rtol=0)


def test_processes_draw_their_parts_of_one_batch(images: Tensor) -> None:
    whole = two_views(images, ViewSettings(), generator(1)).unflatten(0, (2, -1))
    for part in (slice(0, 3), slice(3, 6)):
        own = two_views(images[part], ViewSettings(), generator(1), 6, part).unflatten(0, (2, -1))
        torch.testing.assert_close(own, whole[:, part])
    views, struck = degraded_view(images, DegradationSettings(), generator(1))
    part = slice(2, 5)
    own = degraded_view(images[part], DegradationSettings(), generator(1), 6, part)
    torch.testing.assert_close(own, (views[part], struck[part]))

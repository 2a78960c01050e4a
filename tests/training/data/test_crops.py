"""Crops of images as they are stored: torchvision's, from one decode, the same at any position of a run."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as F

from tests.conftest import FASHION
from vssl.images.decoding import Preprocessing, load_rgb, open_guarded
from vssl.sources.opening import open_source
from vssl_training.data import stream
from vssl_training.data.crops import TRIES, CropOrder, Cuts, box
from vssl_training.data.loading import load_data
from vssl_training.data.order import Order
from vssl_training.data.stream import Stream, batch_of
from vssl_training.loop.training import train
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import ImageSettings, Recipe, ViewSettings
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget
from vssl_training.views.two_views import cropped_views

CPU = torch.device("cpu")
VIEWS = ViewSettings(size=24, crop=(0.08, 1.0), small_crops={"count": 3, "size": 8})
ORDER = CropOrder(Order(seed=3, phase=0, count=6, batch=4), VIEWS, 24, 10)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of many shapes, made of noise that is soft enough to be interpolated."""
    folder = tmp_path_factory.mktemp("photographs")
    numbers = np.random.default_rng(0)
    for number, (width, height) in enumerate([(90, 60), (60, 90), (200, 40), (40, 200), (64, 64), (33, 47)]):
        small = Image.fromarray(numbers.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def opened(folder: Path) -> Stream:
    source = open_source(str(folder))
    return Stream(source, list(source.paths()), Preprocessing(24), CPU, 0.5, lambda _: None)


def drawn(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 2 * TRIES + 2))


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (200, 40)])
def test_boxes_are_drawn_as_torchvision_draws_them(shape: tuple[int, int]) -> None:
    area = (0.08, 1.0)
    ours = np.array([box(*shape, area, draws) for draws in drawn(1500)])
    torch.manual_seed(0)
    blank = torch.empty(3, shape[1], shape[0])
    theirs = np.array([RandomResizedCrop.get_params(blank, list(area), [3 / 4, 4 / 3]) for _ in range(1500)])
    left, top, right, bottom = ours.T
    for found, wanted in ((left, theirs[:, 1]), (top, theirs[:, 0]), (right - left, theirs[:, 3])):
        assert ks_2samp(found, wanted).pvalue > 0.01
    assert ks_2samp((right - left) * (bottom - top), theirs[:, 2] * theirs[:, 3]).pvalue > 0.01
    assert ours.min() >= 0
    assert right.max() <= shape[0]
    assert bottom.max() <= shape[1]


@pytest.mark.parametrize("shape", [(400, 20), (20, 400), (50, 48)])
def test_where_no_shape_fits_it_is_the_centre_as_torchvision_has_it(shape: tuple[int, int]) -> None:
    draws = drawn(1)[0]
    torch.manual_seed(0)
    blank = torch.empty(3, shape[1], shape[0])
    top, left, high, wide = RandomResizedCrop.get_params(blank, [5.0, 5.0], [3 / 4, 4 / 3])
    assert box(*shape, (5.0, 5.0), draws) == (left, top, left + wide, top + high)


def test_crops_are_resampled_from_the_original_as_torchvision_does(photographs: Path) -> None:
    """All but the outermost pixels, where ours see what lies beside the crop."""
    order = ORDER.order(0).tolist()
    files = [sorted(photographs.glob("*.png"))[index] for index in order]
    crops = opened(photographs).crops(ORDER, 0)
    assert [tuple(each.shape) for each in crops] == [(8, 24, 24, 3), (12, 8, 8, 3)]
    for kind, cuts in zip(crops, ORDER.cuts(0), strict=True):
        for place, file in enumerate(files):
            for view in range(len(cuts.draws)):
                image = Image.open(file)
                left, top, right, bottom = box(*image.size, cuts.area, cuts.draws[view, place])
                wanted = F.resized_crop(
                    image, top, left, bottom - top, right - left, [cuts.size] * 2, F.InterpolationMode.BICUBIC
                )
                ours = kind[view * len(files) + place].numpy()[2:-2, 2:-2].astype(int)
                assert np.abs(ours - np.asarray(wanted)[2:-2, 2:-2]).max() <= 1


def test_a_stream_gives_the_same_crops_from_any_step_on_and_to_any_process(photographs: Path) -> None:
    images = opened(photographs)
    whole = [images.crops(ORDER, step) for step in range(3)]
    again = opened(photographs).crops(ORDER, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole[2], again, strict=True))
    assert not torch.equal(whole[0][0], whole[1][0])
    half = Order(ORDER.order.seed, 0, 6, 4, slice(2, 4))
    own = opened(photographs).crops(CropOrder(half, VIEWS, 24, 10), 0)
    for all_of_it, part in zip(whole[0], own, strict=True):
        views = all_of_it.unflatten(0, (-1, 4))[:, 2:]
        assert torch.equal(part, views.flatten(0, 1))


def test_each_image_is_decoded_once_for_all_of_its_views(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, opens = opened(photographs), list[int]()

    def counting(data: bytes) -> Image.Image:
        opens.append(len(data))
        return open_guarded(data)

    monkeypatch.setattr(stream, "open_guarded", counting)
    wanted = stream._wanted(ORDER, 0)
    found = images._files[wanted]
    assert len(opens) == len(wanted.indices) == 4
    assert len(found.pixels) == 2


def test_early_views_and_their_sides_follow_the_settings() -> None:
    views = ViewSettings.model_validate({"early": {"size": 16, "share": 0.5}})
    order = CropOrder(ORDER.order, views, 48, 10)
    assert [cuts.size for step in (0, 5) for cuts in order.cuts(step)] == [16, 48]


def test_a_damaged_file_is_replaced_by_the_next(photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "set")
    (tmp_path / "set" / "2.png").write_bytes(b"text")
    images = opened(tmp_path / "set")
    crops, _ = images.crops(CropOrder(Order(seed=3, phase=0, count=6, batch=6), VIEWS, 24, 10), 0)
    assert list(images.failures) == ["2.png"]
    assert crops.shape == (12, 24, 24, 3)


def test_flips_and_blurs_of_crops_are_those_of_whole_images() -> None:
    """Mirrored for sure and nothing else: each view is its crop turned round. With a blur, its mean stays."""
    crops = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = ViewSettings(flip=1.0, jitter=0, grey=0)
    (views,) = cropped_views([crops], plain, torch.Generator().manual_seed(1), 3)
    torch.testing.assert_close(views, crops.flip(-1), atol=1e-5, rtol=0)
    soft = plain.model_copy(update={"blur": (1.0, 0.0), "blur_sigma": (0.1, 0.1)})
    first, second = cropped_views([crops], soft, torch.Generator().manual_seed(1), 3)[0].chunk(2)
    assert (first.std((2, 3)) < 0.7 * second.std((2, 3))).all()


CROPPED = ["image.stored=original", "image.size=24", "views.crop=[0.08, 1.0]", "views.small_crops.count=1"]


def test_a_run_on_originals_that_stopped_goes_on_to_the_same_weights(
    fashion_folder: Path, small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(small_recipe, CROPPED)
    train(recipe, str(fashion_folder), tmp_path / "whole", Budget(steps=10), 0)
    step = EncoderTraining.step

    def failing(self: EncoderTraining, number: int) -> dict[str, torch.Tensor]:
        if number == 5:
            raise InterruptedError
        return step(self, number)

    monkeypatch.setattr(EncoderTraining, "step", failing)
    with pytest.raises(InterruptedError):
        train(recipe, str(fashion_folder), tmp_path / "run", Budget(steps=10), 0)
    monkeypatch.setattr(EncoderTraining, "step", step)
    train(recipe, str(fashion_folder), tmp_path / "run", Budget(steps=10), 0)
    whole, run = (Run(tmp_path / name).weights_path.read_bytes() for name in ("whole", "run"))
    assert whole == run
    assert Run(tmp_path / "run").sample().shape[1:] == (24, 24, 3)


def test_images_stored_larger_than_the_network_sees_them(small_recipe: Recipe) -> None:
    image = ImageSettings(size=16, stored=28).settled()
    data = load_data(f"{FASHION}::test", None, image, CPU, 0.1, lambda _: None)
    assert isinstance(data.images, torch.Tensor)
    assert data.images.shape[1:] == (28, 28, 3)
    assert data.sample.pixels.shape[1:] == (16, 16, 3)
    recipe = override(small_recipe, ["image.size=16", "image.stored=28", "views.size=null", "views.early=null"])
    phase = EncoderTraining(recipe, data.images, 0, 10)
    assert phase.views(0)[0].shape[2:] == (16, 16)
    shown = phase.shown(phase.images(0))
    stored = batch_of(data.images, phase.order, 0).numpy()
    for ours, pixels in zip(shown, stored, strict=True):
        wanted = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(ours.numpy() * 255 - wanted).max() <= 1


def test_a_crop_is_of_the_upright_picture() -> None:
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (0, 0, 20, 20))
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: blue comes to the top
    picture.save(file, "PNG", exif=exif)
    with open_guarded(file.getvalue()) as image:
        upright = load_rgb(image)
    whole = np.concatenate([np.full(TRIES, 1.0), np.full(TRIES, 0.5), [0.5, 0.5]])
    (crop,) = Cuts(8, (1.0, 1.0), whole[None, None]).of(upright, 0, "bilinear")
    assert crop[0, 4].tolist() == [0, 0, 255]
    assert crop[-1, 4].tolist() == [255, 0, 0]

"""Training speed of the recipe `quick`: our step, and the same step fed by lightly's transform and a DataLoader.

Everything runs in turn in one process, several rounds, and medians are taken. The peer decodes nothing either: its
data set holds the same pixels as PIL images; `lightly.transforms.SimCLRTransform` (1.6, MIT) makes two views of each
with the strengths of the recipe, worker processes of a torch DataLoader on every core batch them, and the networks,
the loss and the optimiser are ours. "Augmentation alone" compares our whole batches with torchvision's per-image
transforms in this process, without workers, since ours has none.
"""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.report import DEMO_DATA, parser, report
from vssl.images import load_images
from vssl.sources import open_source
from vssl_training.augment import to_float, two_views
from vssl_training.pretrain import Pretraining
from vssl_training.recipe import ViewSettings, load_recipe, override
from vssl_training.run import preprocessing_of
from vssl_training.schedule import batch_indices, generator
from vssl_training.speed import Speed


class LightlyViews(Dataset[list[Tensor]]):
    """Two views of each image as lightly makes them, from PIL images in memory."""

    def __init__(self, pixels: Tensor, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.images = [Image.fromarray(image) for image in pixels.numpy()]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


class FedByLightly(Pretraining):
    """Our step, with views that come from a DataLoader."""

    feed: Iterator[list[Tensor]]

    def views(self, step: int) -> list[Tensor]:
        """See `Pretraining.views`."""
        return [torch.cat(next(self.feed)).contiguous(memory_format=self.speed.memory_format)]


def lightly_transform(views: ViewSettings, size: int) -> Any:  # noqa: ANN401 — lightly has no types
    """SimCLR's transform with the recipe's strengths, without blur and without normalisation, which our net does."""
    from lightly.transforms.simclr_transform import SimCLRTransform

    return SimCLRTransform(
        input_size=size,
        cj_prob=views.jitter,
        cj_strength=1.0,
        cj_bright=views.brightness,
        cj_contrast=views.contrast,
        cj_sat=views.saturation,
        cj_hue=views.hue,
        min_scale=views.crop[0],
        random_gray_scale=views.grey,
        gaussian_blur=0.0,
        hf_prob=views.flip,
        normalize=None,
    )


def endless(loader: DataLoader[list[Tensor]]) -> Iterator[list[Tensor]]:
    """Batches, epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(loader))


def seconds(work: Callable[[int], object], steps: int) -> float:
    """Mean seconds of `work` over some steps."""
    begun = time.perf_counter()
    for step in range(steps):
        work(step)
    return (time.perf_counter() - begun) / steps


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=f"{DEMO_DATA}::train", help="images: folder, .zip, or archive.zip::folder")
    arguments = flags.parse_args()
    recipe = override(load_recipe("quick"), ["views.early=null"])  # all steps alike
    pixels = torch.from_numpy(load_images(open_source(arguments.data), preprocessing_of(recipe)).pixels)
    rounds, steps = (3, 10) if arguments.quick else (9, 30)
    ours = Pretraining(recipe, pixels, 0, 10_000)
    first = Pretraining(recipe, pixels, 0, 10_000, Speed(channels_last=False))
    fed = FedByLightly(recipe, pixels, 0, 10_000)
    dataset = LightlyViews(pixels, lightly_transform(recipe.views, recipe.views.size or recipe.image.size))
    workers = os.cpu_count() or 1
    loader = DataLoader(dataset, ours.batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True)

    def augment(step: int) -> None:
        chosen = pixels[batch_indices(0, 0, step, len(pixels), ours.batch)]
        two_views(to_float(chosen), recipe.views, generator(0, 0, step))

    def augment_each(step: int) -> None:
        for index in batch_indices(0, 0, step, len(pixels), ours.batch).tolist():
            dataset[index]

    def step_fed(step: int) -> None:
        fed.step(step)

    works: dict[str, Callable[[int], object]] = {
        "our step": ours.step,
        "our step, channels first": first.step,
        "our augmentation alone": augment,
        "torchvision's augmentation alone, image by image": augment_each,
        "the step fed by lightly's transform and a DataLoader": step_fed,
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            fed.feed = endless(loader) if work is step_fed else iter(())  # the workers must not run ahead of time
            seconds(work, 2)
            times[name].append(seconds(work, steps))
    medians = {name: statistics.median(values) for name, values in times.items()}
    whole, alone = medians["our step"], medians["our augmentation alone"]
    rows = [
        {
            "part": name,
            "images_per_second": ours.batch / median,
            "times_our_step": median / whole,
            "times_our_augmentation": median / alone,
        }
        for name, median in medians.items()
    ]
    settings = {"recipe": "quick", "batch": ours.batch, "width": recipe.network.width, "rounds": rounds}
    report("Training speed", rows, settings | {"loader_workers": workers}, arguments.json)


if __name__ == "__main__":
    main()

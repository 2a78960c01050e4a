"""Training speed of the recipe `quick`: our step, and the same step fed by lightly's transform and a DataLoader.

Everything runs in turn in one process, several rounds, and medians are taken: of steps with small views and with large
ones, weighted as the recipe has them. The peer decodes nothing either: its
data set holds the same pixels as PIL images; `lightly.transforms.SimCLRTransform` (1.6, MIT) makes two views of each
with the strengths of the recipe, worker processes of a torch DataLoader on every core batch them, and the networks,
the loss and the optimiser are ours. "Augmentation alone" compares our whole batches with torchvision's per-image
transforms in this process, without workers, since ours has none.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.report import DEMO_DATA, Row, parser, report
from vssl.memory import cores
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_training.data.order import batch_indices, generator
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.recipe.sections import Recipe, ViewSettings
from vssl_training.run.numerics import Numerics
from vssl_training.run.record import preprocessing_of
from vssl_training.views.pixels import to_float
from vssl_training.views.two_views import two_views


class LightlyViews(Dataset[list[Tensor]]):
    """Two views of each image as lightly makes them, from PIL images in memory."""

    def __init__(self, pixels: Tensor, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.images = [Image.fromarray(image) for image in pixels.numpy()]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


class FedByLightly(EncoderTraining):
    """Our step, with views that come from a DataLoader."""

    feed: Iterator[list[Tensor]]

    def views(self, step: int) -> list[Tensor]:
        """See `EncoderTraining.views`."""
        return [torch.cat(next(self.feed)).contiguous(memory_format=self.numerics.memory_format)]


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


def median_seconds(recipe: Recipe, pixels: Tensor, speed: Numerics, rounds: int, steps: int) -> dict[str, float]:
    """Median seconds of a step of each part, all of whose views have the recipe's `views.size`."""
    ours = EncoderTraining(recipe, pixels, 0, 10_000, speed)
    first = EncoderTraining(recipe, pixels, 0, 10_000, speed.model_copy(update={"channels_last": False}))
    fed = FedByLightly(recipe, pixels, 0, 10_000, speed)
    dataset = LightlyViews(pixels, lightly_transform(recipe.views, recipe.views.size or recipe.size))
    workers = cores()
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
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=f"{DEMO_DATA}::train", help="images: folder, .zip, or archive.zip::folder")
    flags.add_argument("--bf16", action="store_true", help="where `vssl train --autotune` finds it to pay")
    arguments = flags.parse_args()
    recipe = load_recipe("quick")
    early = recipe.views.early
    assert early is not None
    pixels = torch.from_numpy(load_images(open_source(arguments.data), preprocessing_of(recipe)).pixels)
    rounds, steps = (2, 5) if arguments.quick else (9, 20)
    parts = {early.size: early.share, recipe.views.size: 1 - early.share}
    found = {
        size: median_seconds(
            override(recipe, ["views.early=null", f"views.size={size}"]),
            pixels,
            Numerics(bf16=arguments.bf16),
            rounds,
            steps,
        )
        for size in parts
    }
    rows: list[Row] = []
    for name in found[early.size]:
        took, whole, alone = (
            sum(share * found[size][part] for size, share in parts.items())
            for part in (name, "our step", "our augmentation alone")
        )
        row: Row = {"part": name, "images_per_second": recipe.optimiser.batch / took}
        row |= {"times_our_step": took / whole, "times_our_augmentation": took / alone}
        rows.append(row | {f"ms_{size}_px": 1000 * found[size][name] for size in parts})
    settings = {"recipe": "quick", "batch": recipe.optimiser.batch, "width": recipe.network.width, "rounds": rounds}
    settings |= {"bf16": arguments.bf16, "loader_workers": cores()}
    report("Training speed", rows, settings, arguments.json)


if __name__ == "__main__":
    main()

"""Training speed of the recipe `quick`: images/s of a whole step, and what part of it is augmentation.

A step is taken apart by running its parts alone in turn, several rounds in one process, and taking medians; the same
step with memory laid out channels first stands beside it.
"""

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.report import DEMO_DATA, parser, report
from vssl.images import load_images
from vssl.sources import open_source
from vssl_training.augment import to_float, two_views
from vssl_training.pretrain import Pretraining
from vssl_training.recipe import load_recipe
from vssl_training.run import preprocessing_of
from vssl_training.schedule import batch_indices, generator


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
    recipe = load_recipe("quick")
    pixels = torch.from_numpy(load_images(open_source(arguments.data), preprocessing_of(recipe)).pixels)
    rounds, steps = (3, 10) if arguments.quick else (9, 30)
    phase, first = Pretraining(recipe, pixels, 0, 10_000), Pretraining(recipe, pixels, 0, 10_000)
    for encoder in (first.student, first.teacher):
        encoder.to(memory_format=torch.contiguous_format)
    first.memory_format = torch.contiguous_format

    def augment(step: int) -> None:
        chosen = pixels[batch_indices(0, 0, step, len(pixels), phase.batch)]
        two_views(to_float(chosen), recipe.views, generator(0, 0, step))

    works: dict[str, Callable[[int], object]] = {
        "whole step": phase.step,
        "augmentation alone": augment,
        "whole step, channels first": first.step,
    }
    for work in works.values():
        seconds(work, 3)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work, steps))
    medians = {name: statistics.median(values) for name, values in times.items()}
    whole = medians["whole step"]
    rows = [
        {"part": name, "images_per_second": phase.batch / median, "share_of_step": median / whole}
        for name, median in medians.items()
    ]
    rest = whole - medians["augmentation alone"]
    rows.append({"part": "the rest", "images_per_second": phase.batch / rest, "share_of_step": rest / whole})
    settings = {"recipe": "quick", "batch": phase.batch, "width": recipe.network.width, "rounds": rounds}
    report("Training speed", rows, settings, arguments.json)


if __name__ == "__main__":
    main()

"""Takes some steps of both phases in double precision, alone or as one of several processes, and prints the losses.

python -m tests.training.some_steps WEIGHTS [torchrun in front]
"""

import json
import sys
from typing import Any

import torch
from torch import Tensor

from vssl_training.phases import base, variance
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run import processes
from vssl_training.views import degrading

STEPS = 6
SETTINGS = [
    *(
        "network.width=8",
        "network.dimension=16",
        "optimiser.batch=16",
        "variance.batch=16",
        "variance.target=neighbour",
    ),
    *("network.embedding.whiten.dimension=16", "views.early={size: 16, share: 0.5}"),
    # SGD: where a gradient is next to nothing, AdamW turns the last bit of a sum into a whole step.
    *("optimiser.name=sgd", "optimiser.learning_rate=0.02", "objective.contrastive=0.5"),
    *("views.small_crops.count=2", "views.blur=[1.0, 0.5]"),
    # What `quick` goes without.
    *("teacher.momentum=0.985", "network.predictor.hidden=32", "objective.decorrelation=0.1"),
]


def to_double(images: Tensor) -> Tensor:
    """As `pixels.to_float`, for networks in double precision."""
    return images.permute(0, 3, 1, 2).double() / 255


def degraded(images: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """`degrading.degraded_view`, in the single precision that it is written for."""
    torch.set_default_dtype(torch.float32)
    views, struck = degrading.degraded_view(images.float(), *rest)
    torch.set_default_dtype(torch.float64)
    return views.double(), struck


def main() -> None:
    """Train, print, save."""
    torch.set_default_dtype(torch.float64)
    base.to_float = variance.to_float = to_double  # type: ignore[attr-defined]
    variance.degraded_view = degraded  # type: ignore[assignment, attr-defined]
    recipe = override(load_recipe("quick"), SETTINGS)
    pixels = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with processes.joined():
        first = EncoderTraining(recipe, pixels, 0, STEPS)
        losses = [first.step(step)["loss"].item() for step in range(STEPS)]
        second = VarianceTraining(recipe, first.student, pixels, 0, STEPS).prepare()
        losses += [second.step(step)["loss"].item() for step in range(STEPS)]
        if processes.rank() == 0:
            torch.save(second.embedder.state_dict(), sys.argv[1])
            print(json.dumps(losses))  # noqa: T201


if __name__ == "__main__":
    main()

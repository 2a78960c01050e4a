"""Two steps of both phases on a device and on the CPU, on the same views: how far apart they end."""

import torch
from torch import Tensor

from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import VarianceTraining, Views
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import Recipe

STEPS = 2

SIZES = ["optimiser.batch=32", "variance.batch=32", "views.early=null", "network.width=8"]
# SGD: where a gradient is next to nothing, AdamW turns the last bit of a sum into a whole step.
EXACT = [*SIZES, "optimiser.name=sgd", "optimiser.learning_rate=0.02", "network.embedding.whiten.dimension=16"]
EXACT += ["teacher.momentum=0.985"]


class Given(EncoderTraining):
    """The first phase in double precision, on views that are drawn on the CPU: a GPU draws other numbers."""

    def __init__(self, recipe: Recipe, pixels: Tensor) -> None:
        super().__init__(recipe, pixels, 0, STEPS)
        for module in (self.student, self.predictor, self.teacher):
            if module is not None:
                module.double()
        self.drawn = EncoderTraining(recipe, pixels.cpu(), 0, STEPS)

    def views(self, step: int) -> list[Tensor]:
        """See `EncoderTraining.views`."""
        return [view.double().to(self.pixels.device) for view in self.drawn.views(step)]


def largest_difference(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Of losses and of weights, relative to the size of each: of the two phases on a device and on the CPU."""
    recipe = override(recipe, EXACT)
    size = recipe.image.settled().size
    pixels = torch.randint(0, 256, (64, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here, there = (Given(recipe, pixels.to(place)) for place in (torch.device("cpu"), device))
    found = {}
    for step in range(STEPS):
        losses = [phase.step(step)["loss"].item() for phase in (here, there)]
        found[f"encoder, loss of step {step}"] = abs(losses[1] / losses[0] - 1)
    found["encoder, weights"] = relative(here.student, there.student)
    return found | of_the_head(recipe, pixels, here, device)


def of_the_head(recipe: Recipe, pixels: Tensor, trained: Given, device: torch.device) -> dict[str, float]:
    """The same of the second phase, whose head learns from what the CPU's encoder has seen."""
    encoder = trained.trained.float()
    here = VarianceTraining(recipe, encoder, pixels, 0, STEPS).prepare()
    seen = [here.views(step) for step in range(STEPS)]
    heads = [VarianceTraining(recipe, encoder.cpu(), pixels.to(place), 0, STEPS) for place in (pixels.device, device)]
    found = {}
    for phase in heads:
        phase.bank = here.bank.double().to(phase.pixels.device)
    for step, views in enumerate(seen):
        losses = [learned(phase, step, views) for phase in heads]
        found[f"head, loss of step {step}"] = abs(losses[1] / losses[0] - 1)
    return found


def learned(phase: VarianceTraining, step: int, views: Views) -> float:
    """The loss of a step of a head in double precision."""
    phase.head.double()
    place = phase.pixels.device
    features, mean, target, degraded = (
        each.double().to(place) for each in (views.features, views.mean, views.target, views.degraded)
    )
    return phase.learn(step, Views(features, mean, target, degraded, views.draws))["loss"].item()


def relative(one: torch.nn.Module, other: torch.nn.Module) -> float:
    """The largest difference of two modules' weights, over the largest weight of the same tensor."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(((a - b.to(a.device)).abs().max() / a.abs().max().clamp_min(1e-3)).item() for a, b in pairs)

"""What a run's images may fill on its device: what a step, which is measured, leaves free there."""

import torch

from vssl_training.data.placing import Room, room_here
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.sections import Recipe
from vssl_training.run.numerics import Numerics

LAST = 10
"""Step that is measured, of so many: its views have their full size."""


def room_on(recipe: Recipe, device: torch.device) -> Room:
    """Room for images on a device, and in this process's part of the host's memory."""
    if device.type != "cuda" or recipe.image.stored == "original":
        return room_here()
    return room_here(torch.cuda.mem_get_info(device)[0], step_bytes(recipe, device))


def step_bytes(recipe: Recipe, device: torch.device) -> int:
    """Bytes of a GPU that the networks, their optimiser and a step of the first phase take."""
    side = recipe.image.stored if isinstance(recipe.image.stored, int) else recipe.size
    pixels = torch.randint(0, 256, (recipe.optimiser.batch, side, side, 3), dtype=torch.uint8)
    torch.cuda.reset_peak_memory_stats(device)
    phase = EncoderTraining(recipe, pixels.to(device), 0, LAST, Numerics.of(device))
    for step in (LAST - 2, LAST - 1):  # the optimiser's memory comes with its first step
        phase.step(step)
    taken = torch.cuda.max_memory_reserved(device)
    del phase
    torch.cuda.empty_cache()
    return taken

"""`--autotune`: measure each switch of `Speed` once on this device, and keep those that pay."""

from torch import Tensor

from vssl_training.data import Stream
from vssl_training.planning import seconds_a_step
from vssl_training.pretrain import Pretraining
from vssl_training.progress import Progress
from vssl_training.recipe import Recipe
from vssl_training.speed import Speed

GAIN = 1.03
"""A switch must make steps this many times as fast, or it is noise."""


def autotune(recipe: Recipe, pixels: Tensor | Stream, progress: Progress) -> Speed:
    """Turn the switches on one after the other, each on top of those that paid, measuring whole steps of phase 1."""
    chosen = Speed(channels_last=False)
    best = seconds_a_step(Pretraining(recipe, pixels, 0, 10_000, chosen))
    progress.say(f"autotune: {best * 1e3:.1f} ms a step without any switch")
    for switch in Speed.model_fields:
        tried = chosen.model_copy(update={switch: True})
        if switch == "fused" and recipe.optimiser.name == "lars":
            continue  # there is no such form of it
        try:
            seconds = seconds_a_step(Pretraining(recipe, pixels, 0, 10_000, tried))
        except Exception as error:  # compilers and kernels fail in ways of their own; then the switch stays off
            progress.say(f"autotune: {switch} does not work here: {str(error).splitlines()[0]}")
            continue
        pays = best / seconds >= GAIN
        progress.say(f"autotune: {switch} {best / seconds:.2f} times as fast: {'on' if pays else 'off'}")
        if pays:
            chosen, best = tried, seconds
    return chosen

"""`--autotune`: measure each switch of `Numerics` once on this device, and keep those that pay."""

import time

from vssl_training.data.stream import Images
from vssl_training.loop.progress import Progress
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.sections import Recipe
from vssl_training.run import processes
from vssl_training.run.numerics import Numerics

GAIN = 1.1
"""A switch must make steps this many times as fast: less may be noise, and does not pay for a compilation."""

WARM_UP, ROUNDS = 2, 6


def autotune(recipe: Recipe, pixels: Images, progress: Progress) -> Numerics:
    """Turn the switches on one after the other, each on top of those that paid, measuring whole steps of phase 1."""
    chosen = Numerics(channels_last=False)
    best = EncoderTraining(recipe, pixels, 0, 10_000, chosen)
    for switch in Numerics.model_fields:
        if switch == "fused" and recipe.optimiser.name == "lars":
            continue  # there is no such form of it
        numerics = chosen.model_copy(update={switch: True})
        tried = EncoderTraining(recipe, pixels, 0, 10_000, numerics)
        try:
            before, after = quickest_steps(best, tried)
        except Exception as error:  # compilers and kernels fail in ways of their own; then the switch stays off
            progress.say(f"autotune: {switch} does not work here: {str(error).splitlines()[0]}")
            continue
        pays = before / after >= GAIN
        progress.say(
            f"autotune: {switch} {before / after:.2f} times as fast ({after * 1e3:.0f} ms a step): "
            f"{'on' if pays else 'off'}"
        )
        if pays:
            chosen, best = numerics, tried
    return chosen


def quickest_steps(*phases: EncoderTraining) -> list[float]:
    """Seconds of each one's quickest step, taken in turn; the same in all processes.

    Not the mean: whatever else runs on the machine slows some steps down threefold, and speeds none up.
    """
    times: list[list[float]] = [[] for _ in phases]
    for step in range(phases[0].steps - WARM_UP - ROUNDS, phases[0].steps):  # the last ones: early ones may be smaller
        for phase, found in zip(phases, times, strict=True):
            begun = time.perf_counter()
            phase.step(step)["loss"].item()  # read, so that a GPU has finished
            found.append(time.perf_counter() - begun)
    return [processes.broadcast(min(found[WARM_UP:])) for found in times]

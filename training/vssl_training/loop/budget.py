"""How many steps a run takes: those that were named, or what the minutes hold at the speed measured at the start."""

import math
import time
from dataclasses import dataclass

from vssl_training.data.stream import Images
from vssl_training.judging.online import OnlineJudge
from vssl_training.phases.base import Phase
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import WORTH, VarianceTraining
from vssl_training.recipe.sections import Recipe
from vssl_training.run import processes
from vssl_training.run.numerics import Numerics
from vssl_training.run.record import Budget, Schedule

LOGS, EVALUATIONS, CHECKPOINTS = 100, 10, 50
"""How often a phase does each, if its steps are quick."""

LOG_SECONDS, EVALUATION_SECONDS, CHECKPOINT_SECONDS = 30.0, 600.0, 60.0
"""At the latest so long after the last time: of a run of days a hundredth is too long to wait for, or to lose."""

RESERVE = 0.05
"""Part of the minutes that is not planned for: checkpoints, the report, and slower moments."""

TRIAL = 10_000
"""Steps of a phase that is only measured: enough for each of its parts."""

MEASURED, PARTS = 2.5, 5
"""Seconds that the speed of a phase is measured for, and in how many parts."""


def plan(
    recipe: Recipe,
    pixels: Images,
    judge: OnlineJudge,
    budget: Budget,
    spent: float,
    numerics: Numerics,
    encoder: bool = True,
) -> Schedule:
    """Fix the steps of both phases.

    Args:
        recipe: what is trained; without a second phase it says `variance.joint`.
        pixels: images, uint8 [N, S, S, 3], or a stream of them.
        judge: its time counts too.
        budget: minutes, steps or epochs.
        spent: seconds since the run began.
        numerics: switches of this device.
        encoder: whether there is a first phase.
    """
    share = 0.0 if recipe.variance.joint else recipe.variance.share if encoder else 1.0
    if budget.epochs is not None:
        steps = budget.epochs * (len(pixels) // min(recipe.optimiser.batch, len(pixels)))
        return steps_of_each(steps, round(steps * share / (1 - share)) if share < 1 else steps, share)
    if budget.steps is not None:
        of_second = round(budget.steps * share)
        return steps_of_each(budget.steps - of_second, of_second, share)
    assert budget.minutes is not None  # a budget is one of the three
    begun = time.monotonic()
    # The first phase is measured first: the second one freezes the encoder that it is given.
    first = EncoderTraining(recipe, pixels, 0, TRIAL, numerics)
    first_seconds = mean_seconds(first) if share < 1 else 1.0
    judging = EVALUATIONS * seconds_to_judge(first, judge, budget.minutes * 60)
    second = SecondSpeed.of(recipe, first, pixels, numerics) if share > 0 else SecondSpeed(1.0, 1.0, 0)
    left = max(0.0, budget.minutes * 60 * (1 - RESERVE) - spent - (time.monotonic() - begun) - judging)
    fitting = steps_of_each(int(left * (1 - share) / first_seconds), second.steps_in(left * share), share)
    return processes.broadcast(fitting)


def seconds_to_judge(phase: Phase, judge: OnlineJudge, budget: float) -> float:
    """Seconds of wall time of the quicker of two judgements: a moment of other work would count once for each of the
    run's. Where the first takes over a hundredth of the run's `budget`, in seconds, it is the only one.
    """
    times: list[float] = []
    while len(times) < 2 and sum(times) <= budget / 100:
        begun = time.monotonic()
        phase.judged(judge)
        times.append(time.monotonic() - begun)
    return min(times)


@dataclass(frozen=True)
class SecondSpeed:
    """Seconds of a step of the second phase: `plain`, and where clean images are `kept` (see `VarianceTraining`), which
    pays from `worth` steps on.
    """

    plain: float
    kept: float
    worth: int

    @classmethod
    def of(cls, recipe: Recipe, first: EncoderTraining, pixels: Images, numerics: Numerics) -> "SecondSpeed":
        """Measured behind the first phase, whose encoder it freezes."""
        phase = VarianceTraining(recipe, first.trained, pixels, 0, TRIAL, numerics).prepare(keep=False)
        plain = seconds_a_step(phase)
        return cls(plain, seconds_a_step(phase.pretending()) if phase.fits() else plain, phase.worth)

    def steps_in(self, seconds: float) -> int:
        """Steps that fit, first showing all images to the encoder where that pays."""
        showing = (self.plain - self.kept) * self.worth / WORTH
        kept = int((seconds - max(0.0, showing)) / self.kept)
        return kept if kept >= self.worth > 0 else int(seconds / self.plain)


def steps_of_each(encoder: int, variance: int, share: float) -> Schedule:
    """The schedule of as many steps; a phase that exists has at least one."""
    return Schedule(encoder=max(1, encoder) if share < 1 else 0, variance=max(1, variance) if share > 0 else 0)


def mean_seconds(phase: EncoderTraining) -> float:
    """`seconds_a_step` over the whole of a phase whose early views have another size."""
    early = phase.recipe.views.early
    late = seconds_a_step(phase, 0 if early is None else math.ceil(early.share * phase.steps))
    return late if early is None else early.share * seconds_a_step(phase, 0) + (1 - early.share) * late


def seconds_a_step(phase: Phase, first: int = 0, warm_up: int = 3) -> float:
    """Wall time of a step over some seconds from step `first` on, after a few that do not count; the same in all
    processes. It is that of the second slowest of a few parts of these seconds: whatever else the machine does for one
    of them must not shorten a run of hours, and a run must not take longer than was said.
    """
    for step in range(warm_up):
        begun = time.monotonic()
        phase.step(first + step)["loss"].item()  # read, so that a GPU has finished
    fitting = MEASURED / (time.monotonic() - begun)
    parts, steps = processes.broadcast((min(PARTS, int(fitting)) or 1, int(fitting / PARTS) or 1))
    found = []
    for part in range(parts):
        begun = time.monotonic()
        for step in range(steps):
            terms = phase.step(first + warm_up + part * steps + step)
        terms["loss"].item()
        found.append((time.monotonic() - begun) / steps)
    return processes.broadcast(sorted(found)[-2:][0])

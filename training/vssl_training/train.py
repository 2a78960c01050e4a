"""A whole run: measure the speed, fix the schedule, train the encoder, then the variance head; resume where it stopped.

Every step's randomness follows from (seed, phase, step), and a checkpoint holds all the rest, so an interrupted run
that goes on equals one that was never interrupted, bit for bit on the same CPU.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vssl.engine import Embeddings, concatenate
from vssl.errors import UsageError, VsslError
from vssl.files import locked
from vssl.images import ImageSet
from vssl_training.data import MAX_UNREADABLE, Stream, TrainingData, load_data
from vssl_training.judge import Judge
from vssl_training.pretrain import Pretraining
from vssl_training.progress import Progress
from vssl_training.recipe import Recipe
from vssl_training.report import SHOWN, write_report
from vssl_training.run import Budget, Run, RunRecord, Schedule, preprocessing_of
from vssl_training.variance import VarianceTraining

LOGS, EVALUATIONS, CHECKPOINTS = 100, 10, 50
"""How often a phase does each."""

RESERVE = 0.05
"""Part of the minutes that is not planned for: checkpoints, the report, and slower moments."""

Phase = Pretraining | VarianceTraining


def train(
    recipe: Recipe,
    location: str,
    path: Path,
    budget: Budget,
    seed: int,
    val: str | None = None,
    max_unreadable: float = MAX_UNREADABLE,
) -> list[tuple[str, str]]:
    """Train a run from where it stands to its end, and return the (path, reason) of files that could not be read.

    Raises:
        UsageError: the data can't be used, `path` holds a run with other settings, or another process trains there.
        VsslError: the loss is no longer finite, a checkpoint is damaged, or too much of the data is.
        KeyboardInterrupt: stopped by the user; the state is saved.
    """
    begun = time.monotonic()
    run = Run(path)
    progress = Progress()
    progress.say(f"reading {location}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = load_data(location, val, preprocessing_of(recipe), device, max_unreadable, progress.say)
    if run.record_path.exists():
        record = run.record()
        wanted = RunRecord(recipe=recipe, seed=seed, data=data.record, budget=budget, schedule=record.schedule)
        check_same(run, record, wanted)
    else:
        judge = Judge.draw(data.sample, seed, device, data.val)
        schedule = plan(recipe, data.images, judge, budget, time.monotonic() - begun)
        record = RunRecord(recipe=recipe, seed=seed, data=data.record, budget=budget, schedule=schedule)
        run.start(record, data.sample)
    if run.finished:
        progress.say(f"{path}: this run is finished")
        return data.failures
    with locked(path), interrupts() as interrupted:
        go_on(run, record, data, progress, interrupted)
    return data.failures


def go_on(run: Run, record: RunRecord, data: TrainingData, progress: Progress, interrupted: list[int]) -> None:
    """Both phases, from the last checkpoint on."""
    checkpoint = run.load_checkpoint(data.images.device)
    judge = Judge.draw(data.sample, record.seed, data.images.device, data.val)
    first = Pretraining(record.recipe, data.images, record.seed, record.schedule.encoder)
    if checkpoint is None or checkpoint["phase"] == first.name:
        run_phase(run, first, checkpoint, progress, interrupted, judge)
        checkpoint = None
    second = VarianceTraining(record.recipe, first.student, data.images, record.seed, record.schedule.variance)
    run_phase(run, second, checkpoint, progress, interrupted, None)
    report(run, record, data.sample, second)
    run.save_weights(second.embedder)


@torch.no_grad()
def report(run: Run, record: RunRecord, images: ImageSet, phase: VarianceTraining) -> None:
    """Write `report.html` from some random images of the run."""
    picked = np.random.default_rng(record.seed).permutation(len(images))[:SHOWN]
    phase.embedder.eval()
    batches = torch.split(torch.from_numpy(images.pixels[picked]).to(phase.pixels.device), 256)
    parts = [Embeddings(*(values.cpu().numpy() for values in phase.embedder(batch))) for batch in batches]
    labels = None if images.labels is None else [images.classes[label] for label in images.labels[picked]]
    write_report(run, images.pixels[picked], concatenate(parts), labels)


def run_phase(
    run: Run,
    phase: Phase,
    checkpoint: dict[str, Any] | None,
    progress: Progress,
    interrupted: list[int],
    judge: Judge | None,
) -> None:
    """Take a phase from its checkpoint (or its start) to its last step.

    Synchronisation: terms of the loss are read (`.item()`) at log steps only. Checkpoints are written between steps.
    """
    start = 0
    if checkpoint is not None:
        phase.load_state(checkpoint)
        start = checkpoint["step"]
        progress.say(f"going on with the {phase.name} phase at step {start:,} of {phase.steps:,}")
    progress.begin(phase.name, start, phase.steps, phase.batch)
    for step in range(start, phase.steps):
        terms = phase.step(step)
        done = step + 1
        if due(done, phase.steps, LOGS):
            values = {name: value.item() for name, value in terms.items()}
            if not all(map(torch.isfinite, map(torch.tensor, values.values()))):
                raise VsslError(
                    f"{run.path}: the loss is not finite at step {done:,} of the {phase.name} phase ({values}); "
                    f"the last good state is in {run.checkpoint_path}. Lower optimiser.learning_rate"
                )
            if judge is not None and isinstance(phase, Pretraining) and due(done, phase.steps, EVALUATIONS):
                values |= judge.figures(phase.student)
            speed = progress.advance(done, values)
            run.log(phase=phase.name, step=done, images_per_second=round(speed, 1), **values)
        if due(done, phase.steps, CHECKPOINTS) or interrupted:
            run.save_checkpoint(phase.state(), phase.name, done)
        if interrupted:
            progress.say(f"stopped at step {done:,}, and saved; the same command goes on from here")
            raise KeyboardInterrupt
    progress.end()


def due(done: int, steps: int, times: int) -> bool:
    """Whether something that happens `times` times over `steps` happens after step number `done`; always at the end."""
    return done * times // steps > (done - 1) * times // steps


def plan(recipe: Recipe, pixels: Tensor | Stream, judge: Judge, budget: Budget, spent: float) -> Schedule:
    """Fix the steps of both phases: those asked for, or what the minutes hold at the speed measured now.

    `spent` seconds of the minutes have gone into reading the data. Speed is measured on states that are thrown away.
    """
    share = recipe.variance.share
    if budget.minutes is None:
        steps = budget.steps or 2
        variance = min(max(1, round(steps * share)), steps - 1)
        return Schedule(encoder=steps - variance, variance=variance)
    begun = time.monotonic()
    first = Pretraining(recipe, pixels, 0, 1_000)
    first_seconds = seconds_a_step(first)
    # Only now: it freezes the encoder, and a frozen encoder is trained in no time.
    second_seconds = seconds_a_step(VarianceTraining(recipe, first.student, pixels, 0, 1_000))
    clock = time.monotonic()
    judge.figures(first.student)
    judging = (time.monotonic() - clock) * EVALUATIONS
    left = max(0.0, budget.minutes * 60 * (1 - RESERVE) - spent - (time.monotonic() - begun) - judging)
    return Schedule(
        encoder=max(1, int(left * (1 - share) / first_seconds)), variance=max(1, int(left * share / second_seconds))
    )


def seconds_a_step(phase: Phase, warm_up: int = 3, least: float = 2.0) -> float:
    """Mean wall time of a step over at least `least` seconds, after a few that are not counted."""
    for step in range(warm_up):
        phase.step(step)
    begun, steps = time.monotonic(), 0
    while time.monotonic() - begun < least:
        phase.step(warm_up + steps)
        steps += 1
    return (time.monotonic() - begun) / steps


def check_same(run: Run, found: RunRecord, wanted: RunRecord) -> None:
    """Refuse to go on with a run under other settings, naming the first that differs."""
    before, now = flatten(found.model_dump(mode="json")), flatten(wanted.model_dump(mode="json"))
    for key in before.keys() | now.keys():
        if before.get(key) != now.get(key) and key != "data.location":
            raise UsageError(
                f"{run.path}: holds a run with {key} = {before.get(key)}, this command has {now.get(key)}; "
                "name a new folder, or use the settings of the run"
            )


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying in the middle of a step; a second one acts at once."""
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[signal.SIGINT])

    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

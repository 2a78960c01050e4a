"""A whole run: measure the speed, fix the schedule, train the encoder, then the variance head; resume where it stopped.

Every step's randomness follows from (seed, phase, step), and a checkpoint holds all the rest, so an interrupted run
that goes on equals one that was never interrupted, bit for bit on the same CPU.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from vssl.errors import UsageError, VsslError
from vssl.files import locked
from vssl_training.data.loading import MAX_UNREADABLE, TrainingData, load_data
from vssl_training.encoder.embedder import Embedder, build_embedder, build_encoder, check_network, embed
from vssl_training.encoder.student import Encoder
from vssl_training.encoder.weights import initial_encoder, initial_whitening, record_weights
from vssl_training.encoder.whitening import Whitening
from vssl_training.judging.online import Judge
from vssl_training.loop.autotune import autotune
from vssl_training.loop.budget import CHECKPOINTS, EVALUATIONS, LOGS, Phase, due, plan
from vssl_training.loop.loggers import check_loggers, following
from vssl_training.loop.progress import Progress
from vssl_training.phases.encoder import Pretraining
from vssl_training.phases.health import Watch, not_finite
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.sections import Recipe
from vssl_training.report.page import SHOWN, write_report
from vssl_training.run import processes as distributed
from vssl_training.run.folder import Run, check_same
from vssl_training.run.numerics import Speed
from vssl_training.run.record import Budget, RunRecord, preprocessing_of

AGREEMENT = 10
"""Steps between the moments at which several processes ask each other whether they were interrupted."""


@dataclass(frozen=True)
class Start:
    """Where a run begins: at random, from the weights at `init`, or with those at its second phase."""

    init: Path | None = None
    variance_only: bool = False


def train(
    recipe: Recipe,
    location: str,
    path: Path,
    budget: Budget,
    seed: int,
    val: str | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    start: Start | None = None,
    tune: bool = False,
    log: list[str] | None = None,
) -> list[tuple[str, str]]:
    """Train a run from where it stands to its end, and return the (path, reason) of files that could not be read.

    Args:
        recipe: what to do.
        location: of the images.
        path: of the run.
        budget: how long.
        seed: of every random choice.
        val: labelled images to judge by.
        max_unreadable: part of the files that may be damaged.
        start: where to begin.
        tune: measure the switches of `Speed` first.
        log: services that are sent the figures too (`vssl_training.loop.loggers`).

    Raises:
        UsageError: the data can't be used, `path` holds a run with other settings, or another process trains there.
        VsslError: the run has gone wrong (`phases.health`), a checkpoint is damaged, or too much of the data is.
        KeyboardInterrupt: stopped by the user; the state is saved.
    """
    begun = time.monotonic()
    start = start or Start()
    check_loggers(log or [])
    check_network(recipe)
    run = Run(path)
    with distributed.processes() as device, ExitStack() as stack:
        progress = Progress(distributed.rank() == 0)
        progress.say(f"reading {location}")
        preprocessing, classes = preprocessing_of(recipe), recipe.image.classes
        data = load_data(location, val, preprocessing, device, max_unreadable, progress.say, classes)
        judge = Judge.draw(data.sample, seed, device, data.val)
        init = None if start.init is None else record_weights(start.init)
        describe = partial(RunRecord, recipe=recipe, seed=seed, data=data.record, budget=budget, init=init)
        if distributed.from_first(run.record_path.exists()):
            record = run.record()
            check_same(run, record, describe(schedule=record.schedule, speed=record.speed))
        else:
            speed = autotune(recipe, data.images, progress) if tune else Speed()
            spent = time.monotonic() - begun
            schedule = plan(recipe, data.images, judge, budget, spent, speed, not start.variance_only)
            record = describe(schedule=schedule, speed=speed)
            if distributed.rank() == 0:
                run.start(record, data.sample)
        distributed.from_first(None)  # nobody goes on before the run exists
        if distributed.any_of(not run.record_path.exists(), device):
            raise UsageError(
                f"{path}: not every process sees this folder; on several nodes a run must lie on a file system that "
                "all of them share"
            )
        if run.finished:
            progress.say(f"{path}: this run is finished")
            return data.failures
        if distributed.rank() == 0:
            stack.enter_context(locked(path))
            stack.enter_context(following(run, record, log or [], progress.say))
        progress.say(applied(recipe))
        interrupted = stack.enter_context(interrupts())
        encoder = whitening = None
        if start.init is not None:
            encoder, fresh = initial_encoder(recipe, start.init, seed)
            progress.say(f"starts from {start.init}" + (f"; new heads: {', '.join(fresh)}" if fresh else ""))
            if start.variance_only and "mean" in fresh and recipe.network.whitening is None:
                raise UsageError(f"{start.init}: its mean head is not the one of this recipe")
            if start.variance_only:
                whitening = initial_whitening(recipe, start.init)
        go_on(run, record, data, judge, encoder, whitening, progress, interrupted)
    return data.failures


def applied(recipe: Recipe) -> str:
    """The optimiser as it is applied, in words."""
    settings = recipe.optimiser
    return (
        f"{settings.name}: learning rate {settings.learning_rate:g} as written, {settings.batch} images a step, weight "
        f"decay {settings.weight_decay:g}, warm-up over {settings.warm_up:.1%} of the steps, then a cosine to 0"
    )


def go_on(
    run: Run,
    record: RunRecord,
    data: TrainingData,
    judge: Judge,
    encoder: Encoder | None,
    whitening: Whitening | None,
    progress: Progress,
    interrupted: list[int],
) -> None:
    """Both phases, from the last checkpoint on.

    `encoder` is where the first one starts, if not at random; `whitening` what the second one keeps, if it fits none.
    """
    recipe, seed, schedule = record.recipe, record.seed, record.schedule
    checkpoint = run.load_checkpoint(data.images.device)
    distributed.from_first(None)  # read by all before anybody writes
    if schedule.encoder and (checkpoint is None or checkpoint["phase"] == Pretraining.name):
        first = Pretraining(recipe, data.images, seed, schedule.encoder, record.speed, encoder)
        run_phase(run, first, checkpoint, judge, progress, interrupted)
        encoder, checkpoint = first.student, None
    encoder = encoder or build_encoder(recipe)
    if schedule.variance:
        second = VarianceTraining(recipe, encoder, data.images, seed, schedule.variance, record.speed)
        if checkpoint is None:
            second.prepare(whitening)
        run_phase(run, second, checkpoint, judge, progress, interrupted)
        embedder = second.embedder
    else:
        embedder = build_embedder(recipe, encoder)
    if distributed.rank() == 0:
        report(run, record, data, embedder.eval())
        run.save_weights(embedder)


def report(run: Run, record: RunRecord, data: TrainingData, embedder: Embedder) -> None:
    """Write `report.html` from some random images of the run."""
    images = data.sample
    picked = np.random.default_rng(record.seed).permutation(len(images))[:SHOWN]
    labels = None if images.labels is None else [images.classes[label] for label in images.labels[picked]]
    write_report(run, images.pixels[picked], embed(embedder, images.pixels[picked]), labels, data.val is not None)


def run_phase(
    run: Run,
    phase: Phase,
    checkpoint: dict[str, Any] | None,
    judge: Judge,
    progress: Progress,
    interrupted: list[int],
) -> None:
    """Take a phase from its checkpoint (or its start) to its last step.

    Synchronisation: terms of the loss are read (`.item()`) at log steps only. Checkpoints are written between steps,
    by the first process.
    """
    start, watch = 0, Watch()
    if checkpoint is not None:
        phase.load_state(checkpoint)
        start, watch = checkpoint["step"], Watch(checkpoint["bad"])
        progress.say(f"going on with the {phase.name} phase at step {start:,} of {phase.steps:,}")
    progress.begin(phase.name, start, phase.steps, phase.batch)
    for step in range(start, phase.steps):
        terms = phase.step(step)
        done = step + 1
        healthy = False
        if due(done, phase.steps, LOGS):
            values = {name: value.item() for name, value in terms.items()}
            trouble = not_finite(values)
            if trouble is None and due(done, phase.steps, EVALUATIONS):
                figures = distributed.from_first(phase.judged(judge) if distributed.rank() == 0 else {})
                values |= figures
                complaint = phase.complaint(figures)
                healthy, trouble = complaint is None, watch.judge(done, complaint)
            speed = progress.advance(done, phase.waited, values)
            if distributed.rank() == 0:
                run.log(phase=phase.name, step=done, images_per_second=round(speed, 1), **values)
            if trouble is not None:
                raise VsslError(stopped(run, phase, done, trouble))
        stop = any_interrupted(interrupted, done, phase)
        if (due(done, phase.steps, CHECKPOINTS) or stop) and distributed.rank() == 0:
            run.save_checkpoint(phase.state() | {"bad": watch.bad}, phase.name, done, good=healthy)
        if stop:
            progress.say(f"stopped at step {done:,}, and saved; the same command goes on from here")
            raise KeyboardInterrupt
    progress.end()


def any_interrupted(interrupted: list[int], done: int, phase: Phase) -> bool:
    """Whether to stop after this step: all processes must, at the same one, so they ask each other now and then."""
    if distributed.size() > 1 and done % AGREEMENT:
        return False
    return distributed.any_of(bool(interrupted), phase.pixels.device)


def stopped(run: Run, phase: Phase, done: int, trouble: str) -> str:
    """Why a run stops by itself, and how to go on."""
    kept = run.good_path if run.good_path.exists() else run.checkpoint_path
    way = f"The last good state is {kept}" if kept.exists() else "No state was kept"
    return (
        f"{run.path}: stopped at step {done:,} of the {phase.name} phase: {trouble}. {way}; "
        "a new run may start from it with --init"
    )


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

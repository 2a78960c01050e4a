"""A whole run: measure the speed, fix the schedule, train the encoder, then the variance head; resume where it stopped.

Every step's randomness follows from (seed, phase, step), and a checkpoint holds all the rest. So an interrupted run
that goes on equals one that was never interrupted, bit for bit on the same CPU.
"""

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from vssl.errors import UsageError
from vssl.files import locked
from vssl_training.data.loading import TrainingData, load_data
from vssl_training.encoder.embedder import Embedder, build_embedder, build_encoder, check_network, embeddings_of
from vssl_training.judging.online import OnlineJudge
from vssl_training.loop.autotune import autotune
from vssl_training.loop.budget import plan
from vssl_training.loop.job import TrainingOptions
from vssl_training.loop.loggers import check_loggers, following
from vssl_training.loop.progress import Progress
from vssl_training.loop.room import room_on
from vssl_training.loop.start import Start, start_of
from vssl_training.loop.steps import RunContext, interrupts, run_phase
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.sections import Recipe
from vssl_training.report.page import SHOWN, write_report
from vssl_training.run import processes
from vssl_training.run.folder import Run, check_same
from vssl_training.run.numerics import Numerics, prepare
from vssl_training.run.record import Budget, RunRecord, Schedule


def train(
    recipe: Recipe,
    location: str,
    path: Path,
    budget: Budget,
    seed: int = 0,
    options: TrainingOptions = TrainingOptions(),  # noqa: B008 — frozen
) -> list[tuple[str, str]]:
    """Train a run from where it stands to its end.

    Args:
        recipe: what to do.
        location: of the images.
        path: of the run.
        budget: how long.
        seed: of every random choice.
        options: validation images, starting weights, services; see `TrainingOptions`.

    Returns:
        (path, reason) of the files that could not be read.

    Raises:
        UsageError: the data can't be used, `path` holds a run with other settings, or another process trains there.
        VsslError: the run has gone wrong (`phases.health`), a checkpoint is damaged, or too much of the data is.
        KeyboardInterrupt: stopped by the user; the state is saved.
    """
    begun = time.monotonic()
    check_loggers(options.log)
    begins = start_of(recipe, options.start, seed)
    recipe = begins.recipe
    check_network(recipe)
    run = Run(path)
    with processes.joined() as device, ExitStack() as stack:
        prepare(device)
        progress = Progress(processes.rank() == 0)
        progress.say(f"reading {location}")
        image, room = recipe.image.settled(), room_on(recipe, device)
        data = load_data(location, options.val, image, device, options.max_unreadable, progress.say, room)
        judge = OnlineJudge.draw(data.sample, seed, device, data.val)
        known = {"init": begins.init, "backbone": begins.backbone, "prior": begins.prior_backbone}
        describe = partial(RunRecord, recipe=recipe, seed=seed, data=data.record, budget=budget, **known)
        if processes.broadcast(run.record_path.exists()):
            record = run.record()
            check_same(run, record, describe(schedule=record.schedule, speed=record.speed))
        else:
            schedule, numerics = measure(recipe, data, judge, budget, options, begun, progress)
            record = describe(schedule=schedule, speed=numerics)
            if processes.rank() == 0:
                run.start(record, data.sample)
        check_shared(run)
        if run.finished:
            progress.say(f"{path}: this run is finished")
            return data.failures
        if processes.rank() == 0:
            stack.enter_context(locked(path))
            stack.enter_context(following(run, record, options.log, progress.say))
        progress.say(describe_optimiser(recipe))
        context = RunContext(run, judge, progress, stack.enter_context(interrupts()))
        for note in begins.notes:
            progress.say(note)
        train_phases(record, data, begins, context)
    return data.failures


def measure(
    recipe: Recipe,
    data: TrainingData,
    judge: OnlineJudge,
    budget: Budget,
    options: TrainingOptions,
    begun: float,
    progress: Progress,
) -> tuple[Schedule, Numerics]:
    """Fix the steps of a new run, and the switches that make them fast; `begun` is when it began (`time.monotonic`)."""
    numerics = autotune(recipe, data.images, progress) if options.tune else Numerics.of(data.images.device)
    spent = time.monotonic() - begun
    schedule = plan(recipe, data.images, judge, budget, spent, numerics, encoder=not options.start.variance_only)
    return schedule, numerics


def check_shared(run: Run) -> None:
    """Let no process go on before the run exists.

    Raises:
        UsageError: a process does not see it.
    """
    processes.broadcast(None)
    if any(processes.any_process([not run.record_path.exists()])):
        raise UsageError(
            f"{run.path}: not every process sees this folder; on several nodes a run must lie on a file system that "
            "all of them share"
        )


def describe_optimiser(recipe: Recipe) -> str:
    """The optimiser as it is applied, in words."""
    settings = recipe.optimiser
    muon = f" ({settings.muon_rate:g} by Muon)" if settings.name == "muon" else ""
    return (
        f"{settings.name}: learning rate {settings.learning_rate:g}{muon} as written, {settings.batch} images a step, "
        f"weight decay {settings.weight_decay:g}, warm-up over {settings.warm_up:.1%} of the steps, then a cosine to 0"
    )


def train_phases(record: RunRecord, data: TrainingData, begins: Start, context: RunContext) -> None:
    """Both phases, from the last checkpoint on; then the report and the weights.

    Args:
        record: what to do.
        data: what to train on.
        begins: where the first phase starts, and what the second one keeps.
        context: the run around the steps.
    """
    run, recipe, seed, schedule = context.run, record.recipe, record.seed, record.schedule
    encoder, checkpoint = begins.encoder, run.load_checkpoint(data.images.device)
    processes.broadcast(None)  # all have read before anybody writes
    if schedule.encoder and (checkpoint is None or checkpoint["phase"] == EncoderTraining.name):
        first = EncoderTraining(recipe, data.images, seed, schedule.encoder, record.speed, encoder, begins.prior)
        if checkpoint is None:
            first.prepare()
        run_phase(first, checkpoint, context)
        encoder, checkpoint = first.trained, None
    encoder = encoder or build_encoder(recipe)
    if schedule.variance:
        second = VarianceTraining(recipe, encoder, data.images, seed, schedule.variance, record.speed)
        if checkpoint is None:
            second.prepare(begins.embedding)
        run_phase(second, checkpoint, context)
        embedder = second.embedder
    else:
        embedder = build_embedder(recipe, encoder)
    if processes.rank() == 0:
        report(run, record, data, embedder.eval())
        run.save_weights(embedder)


def report(run: Run, record: RunRecord, data: TrainingData, embedder: Embedder) -> None:
    """Write `report.html` from some random images of the run."""
    images = data.sample
    picked = np.random.default_rng(record.seed).permutation(len(images))[:SHOWN]
    labels = None if images.labels is None else [images.classes[label] for label in images.labels[picked]]
    answer = embeddings_of(embedder, images.pixels[picked])
    write_report(run, images.pixels[picked], answer, labels, data.val is not None)

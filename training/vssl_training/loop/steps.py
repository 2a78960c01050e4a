"""Takes a phase through its steps: logs, judgements, checkpoints, and stops by the user or by the figures."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from vssl.errors import VsslError
from vssl_training.judging.online import OnlineJudge
from vssl_training.loop.budget import (
    CHECKPOINT_SECONDS,
    CHECKPOINTS,
    EVALUATION_SECONDS,
    EVALUATIONS,
    LOG_SECONDS,
    LOGS,
)
from vssl_training.loop.occasions import Occasion
from vssl_training.loop.progress import Progress
from vssl_training.phases.base import Phase
from vssl_training.phases.health import Patience, not_finite
from vssl_training.run import processes
from vssl_training.run.folder import Run

AGREEMENT = 10
"""Steps between the moments at which several processes ask each other whether one was interrupted, or it is time."""


@dataclass(frozen=True)
class RunContext:
    """What the steps of a run need: its folder, judge and progress line, and the signals received so far."""

    run: Run
    judge: OnlineJudge
    progress: Progress
    interrupted: list[int]


def run_phase(phase: Phase, checkpoint: dict[str, Any] | None, context: RunContext) -> None:
    """Take a phase from its checkpoint (or its start) to its last step.

    Synchronisation: terms of the loss are read (`.item()`) at log steps only. The first process writes checkpoints,
    between steps.

    Raises:
        VsslError: the loss or the figures show that the phase no longer learns.
        KeyboardInterrupt: stopped by the user; the state is saved.
    """
    run, progress = context.run, context.progress
    start, patience = 0, Patience()
    if checkpoint is not None:
        phase.load_state(checkpoint)
        start, patience = checkpoint["step"], Patience(checkpoint["bad"])
        progress.say(f"going on with the {phase.name} phase at step {start:,} of {phase.steps:,}")
    progress.begin(phase.name, start, phase.steps, phase.batch)
    logs, judgements = Occasion(LOGS, LOG_SECONDS), Occasion(EVALUATIONS, EVALUATION_SECONDS)
    checkpoints = Occasion(CHECKPOINTS, CHECKPOINT_SECONDS)
    for step in range(start, phase.steps):
        terms = phase.step(step)
        done, healthy = step + 1, False
        stop, log, judge = agreed(done, [bool(context.interrupted), logs.late, judgements.late])
        judge = judge or judgements.due(done, phase.steps)
        if log or judge or logs.due(done, phase.steps):
            with logs.happening():
                values = {name: value.item() for name, value in terms.items()}
                trouble = not_finite(values)
                if trouble is None and judge:
                    with judgements.happening():
                        healthy, trouble = judged(phase, done, patience, values, context)
                rate = progress.advance(done, phase.waited, values)
                if processes.rank() == 0:
                    run.log(phase=phase.name, step=done, images_per_second=round(rate, 1), **values)
            if trouble is not None:
                raise VsslError(stop_message(run, phase, done, trouble))
        if processes.rank() == 0 and (stop or healthy or checkpoints.worth(done, phase.steps)):
            with checkpoints.happening():
                run.save_checkpoint(phase.state() | {"bad": patience.bad}, phase.name, done, good=healthy)
        if stop:
            progress.say(f"stopped at step {done:,}, and saved; the same command goes on from here")
            raise KeyboardInterrupt
    progress.end()


def judged(
    phase: Phase, done: int, patience: Patience, values: dict[str, float], context: RunContext
) -> tuple[bool, str | None]:
    """Judge a phase after step `done`, add the figures to `values`, and say any warning.

    Returns:
        Whether its state is healthy, and why the run must stop, or None.
    """
    figures = processes.broadcast(phase.judged(context.judge) if processes.rank() == 0 else {})
    values |= figures
    complaint, warning = phase.complaint(figures), phase.warning(figures)
    if warning is not None:
        context.progress.say(warning)
    trouble = phase.alarm(figures) or patience.judge(done, complaint)
    return complaint is None and warning is None, trouble


def agreed(done: int, wishes: list[bool]) -> list[bool]:
    """Which wishes are granted after step `done`: those of any process. Several ask each other now and then."""
    if processes.size() > 1 and done % AGREEMENT:
        return [False] * len(wishes)
    return processes.any_process(wishes)


def stop_message(run: Run, phase: Phase, done: int, trouble: str) -> str:
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

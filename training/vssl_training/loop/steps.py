"""Takes a phase through its steps: logs, judgements, checkpoints, and stops by the user or by the figures."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from vssl.errors import VsslError
from vssl_training.judging.online import OnlineJudge
from vssl_training.loop.budget import CHECKPOINTS, EVALUATIONS, LOGS, due
from vssl_training.loop.progress import Progress
from vssl_training.phases.base import Phase
from vssl_training.phases.health import Patience, not_finite
from vssl_training.run import processes
from vssl_training.run.folder import Run

AGREEMENT = 10
"""Steps between the moments at which several processes ask each other whether they were interrupted."""


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
    for step in range(start, phase.steps):
        terms = phase.step(step)
        done = step + 1
        healthy = False
        if due(done, phase.steps, LOGS):
            values = {name: value.item() for name, value in terms.items()}
            trouble = not_finite(values)
            if trouble is None and due(done, phase.steps, EVALUATIONS):
                figures = processes.broadcast(phase.judged(context.judge) if processes.rank() == 0 else {})
                values |= figures
                complaint, warning = phase.complaint(figures), phase.warning(figures)
                healthy = complaint is None and warning is None
                trouble = phase.alarm(figures) or patience.judge(done, complaint)
                if warning is not None:
                    progress.say(warning)
            rate = progress.advance(done, phase.waited, values)
            if processes.rank() == 0:
                run.log(phase=phase.name, step=done, images_per_second=round(rate, 1), **values)
            if trouble is not None:
                raise VsslError(stop_message(run, phase, done, trouble))
        stop = any_interrupted(context.interrupted, done, phase)
        if (due(done, phase.steps, CHECKPOINTS) or stop) and processes.rank() == 0:
            run.save_checkpoint(phase.state() | {"bad": patience.bad}, phase.name, done, good=healthy)
        if stop:
            progress.say(f"stopped at step {done:,}, and saved; the same command goes on from here")
            raise KeyboardInterrupt
    progress.end()


def any_interrupted(interrupted: list[int], done: int, phase: Phase) -> bool:
    """Whether to stop after this step. All processes stop at the same one, so they ask each other now and then."""
    if processes.size() > 1 and done % AGREEMENT:
        return False
    return processes.any_process(bool(interrupted), phase.pixels.device)


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

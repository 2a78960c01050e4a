"""Logs, judgements and checkpoints happen by steps, by the clock, and never for too much of the time."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from vssl_training.loop import steps as loop_steps
from vssl_training.loop.occasions import NEGLIGIBLE, SHARE, Occasion, due
from vssl_training.loop.training import train
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def happened(seconds: float, cost: float, steps: int, times: int, latest: float) -> list[int]:
    """The steps, each of so many seconds, after which something that costs `cost` seconds happens."""
    clock = Clock()
    occasion, found = Occasion(times, latest, clock), []
    for done in range(1, steps + 1):
        clock.now += seconds
        if occasion.worth(done, steps):
            with occasion.happening():
                clock.now += cost
            found.append(done)
    return found


@given(steps=st.integers(1, 2_000), times=st.integers(1, 200))
def test_due_happens_as_often_as_asked_and_at_the_end(steps: int, times: int) -> None:
    happened = [done for done in range(1, steps + 1) if due(done, steps, times)]
    assert len(happened) == min(steps, times)
    assert happened[-1] == steps


def test_of_quick_steps_it_happens_so_many_times() -> None:
    assert happened(0.01, 0.001, steps=100, times=50, latest=60) == list(range(2, 101, 2))


def test_of_slow_steps_the_clock_decides() -> None:
    assert happened(25, 0.01, steps=10, times=1, latest=60) == [3, 6, 9, 10]


@given(
    seconds=st.floats(0.001, 10),
    cost=st.floats(NEGLIGIBLE + 0.01, 30),
    steps=st.integers(10, 300),
    times=st.integers(1, 100),
)
def test_what_costs_takes_its_share_of_the_time_and_no_more(
    seconds: float, cost: float, steps: int, times: int
) -> None:
    found = happened(seconds, cost, steps, times, latest=60)
    assert found[-1] == steps  # the end is always kept
    between = [after - before for before, after in itertools.pairwise(found[:-1])]
    assert all(cost <= SHARE * gap * seconds + 1e-6 for gap in between)


def test_a_run_by_another_clock_has_the_same_weights(
    fashion_folder: Path, tmp_path: Path, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logged, judged and saved after each step, stopped in the second phase, and gone on with by steps alone."""
    path = {name: tmp_path / name for name in ("whole", "run")}
    train(small_recipe, str(fashion_folder), path["whole"], Budget(steps=8))
    agreed = loop_steps.agreed
    with monkeypatch.context() as patch:
        for name in ("LOG_SECONDS", "EVALUATION_SECONDS", "CHECKPOINT_SECONDS"):
            patch.setattr(loop_steps, name, 0.0)
        patch.setattr(loop_steps, "EVALUATIONS", 1)
        lines: list[int] = []

        def stopped(done: int, wishes: list[bool]) -> list[bool]:
            lines.append(done)
            return [len(lines) == 7, *agreed(done, wishes)[1:]]

        patch.setattr(loop_steps, "agreed", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(small_recipe, str(fashion_folder), path["run"], Budget(steps=8))
        logged = Run(path["run"]).metrics()
        assert len(logged) == 7
        assert all("rank" in line for line in logged if line["phase"] == "encoder")
    train(small_recipe, str(fashion_folder), path["run"], Budget(steps=8))
    whole, again = (load_file(Run(each).weights_path) for each in path.values())
    assert all(torch.equal(value, again[name]) for name, value in whole.items())

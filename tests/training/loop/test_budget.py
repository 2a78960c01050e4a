"""How many steps a run plans: by a measured speed that a moment of other work does not change."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_training.judging.online import OnlineJudge
from vssl_training.loop.budget import SecondSpeed, plan, seconds_a_step, seconds_to_judge
from vssl_training.loop.training import train
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.numerics import Numerics
from vssl_training.run.record import Budget


def test_minutes_fix_the_schedule_once(
    fashion_folder: Path, tmp_path: Path, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a speed that no busy machine changes; a run that goes on is not measured again."""
    measured: list[str] = []

    def measure(phase: EncoderTraining | VarianceTraining, first: int = 0) -> float:
        measured.append(phase.name)
        return 60.0

    monkeypatch.setattr("vssl_training.loop.budget.seconds_a_step", measure)
    for _ in range(2):
        before = list(measured)
        train(small_recipe, str(fashion_folder), tmp_path / "run", Budget(minutes=40), seed=0)
        schedule = Run(tmp_path / "run").record().schedule
        assert schedule.encoder > schedule.variance > 1
        assert schedule.encoder + schedule.variance in range(30, 39)  # of the 40, less a reserve and what was spent
    assert set(measured) == {"encoder", "variance"}
    assert measured == before


def test_steps_that_look_clean_images_up_fit_more_often() -> None:
    """By hand: 100 steps' worth of images are shown once, at 2 s less 1 s a step, which leaves 150 of 200 s."""
    speed = SecondSpeed(plain=2.0, kept=1.0, worth=100)
    assert speed.steps_in(200.0) == 150
    assert speed.steps_in(100.0) == 50  # too few to pay: none are shown
    assert SecondSpeed(1.0, 1.0, 0).steps_in(7.0) == 7


def test_a_moment_of_other_work_shortens_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 10 ms by a clock of the test, one of which is kept from the processor for 2 s."""
    now, taken = 0.0, 0
    monkeypatch.setattr("vssl_training.loop.budget.time", SimpleNamespace(monotonic=lambda: now))

    def step(number: int) -> dict[str, torch.Tensor]:
        nonlocal now, taken
        taken += 1
        now += 2.0 if taken == 40 else 0.01
        return {"loss": torch.zeros(())}

    phase = cast(Any, SimpleNamespace(step=step))
    assert seconds_a_step(phase) == pytest.approx(0.01)
    assert taken > 200


@pytest.mark.parametrize(
    ("takes", "found", "judgements"),
    [((2.5, 0.5), 0.5, 2), ((0.5, 2.5), 0.5, 2), ((60.0, 60.0), 60.0, 1)],
    ids=["kept waiting at first", "kept waiting later", "a large network"],
)
def test_a_moment_of_other_work_is_no_part_of_each_judgement(
    takes: tuple[float, float], found: float, judgements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, left = 0.0, list(takes)
    monkeypatch.setattr("vssl_training.loop.budget.time", SimpleNamespace(monotonic=lambda: now))

    def judged(judge: OnlineJudge) -> None:
        nonlocal now
        now += left.pop(0)

    phase, judge = cast(Any, SimpleNamespace(judged=judged)), cast(OnlineJudge, None)
    assert seconds_to_judge(phase, judge, budget=300.0) == pytest.approx(found)
    assert len(takes) - len(left) == judgements


def test_speed_is_measured_while_the_encoder_still_learns(
    fashion_folder: Path, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second phase freezes the encoder it is given: measured behind it, the first would seem far too fast."""
    images = load_images(open_source(str(fashion_folder)), Preprocessing(32))
    learning: dict[str, bool] = {}

    def measure(phase: EncoderTraining | VarianceTraining, first: int = 0) -> float:
        module = phase.student if isinstance(phase, EncoderTraining) else phase.head
        learning[phase.name] = all(parameter.requires_grad for parameter in module.parameters()) and module.training
        return 0.01

    monkeypatch.setattr("vssl_training.loop.budget.seconds_a_step", measure)
    judge = OnlineJudge.draw(images, 0, torch.device("cpu"))
    plan(small_recipe, torch.from_numpy(images.pixels), judge, Budget(minutes=1), 0.0, Numerics())
    assert learning == {"encoder": True, "variance": True}

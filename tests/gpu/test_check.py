"""What `make test-gpu` does, in small and on the CPU: its own words are right before a GPU is there to say them."""

from pathlib import Path

import pytest
import torch

from tests.gpu import check
from tests.gpu.parity import Given, largest_difference, relative
from tests.training.conftest import SMALL
from tests.training.phases.test_no_waiting import SMALL as SMALL_STEP
from vssl_export.checking import speed
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run.numerics import Numerics

CPU = torch.device("cpu")


def test_every_recipe_that_trains_is_checked() -> None:
    assert set(check.recipes()) == {
        "adapt",
        "cifar10",
        "cifar100",
        "default",
        "distil",
        "folder",
        "imagenet100",
        "quick",
    }
    recipe = check.recipes([*SMALL_STEP, "network.width=8", "network.embedding.whiten.dimension=8"])["quick"]
    assert "images/s" in check.one_step(recipe, Numerics(bf16=True), CPU, steps=1)


def test_a_step_equals_itself_and_no_other() -> None:
    assert max(largest_difference(load_recipe("quick"), CPU).values()) == 0
    recipe = override(load_recipe("quick"), ["network.width=8", "optimiser.batch=8"])
    pixels = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    one, other = Given(recipe, pixels), Given(recipe, pixels)
    one.step(0)
    assert relative(one.student, other.student) > 1e-4  # what one step changes is more than is allowed


@pytest.mark.slow
def test_streams_and_exports_are_compared(fashion_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SPEED_SECONDS", 0.001)
    recipe = override(load_recipe("quick"), SMALL)
    assert "a stream" in check.same_as_in_memory(recipe, str(fashion_folder), CPU)
    assert "ONNX" in check.same_as_onnx(recipe, str(fashion_folder), CPU, steps=4)


def test_a_check_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        raise RuntimeError("no kernel\nfor this")

    assert not check.carried_out("one", fails)
    assert check.carried_out("two", lambda: "fine")
    assert capsys.readouterr().out.splitlines() == ["one: FAILS: RuntimeError: no kernel (0 s)", "two: fine (0 s)"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["check"])
    assert check.main() == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no GPU here: torch finds no CUDA device, and nothing was checked\n")

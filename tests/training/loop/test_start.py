"""Where a run may start, how long it may last, and which switches it takes."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.weights import initial_encoder, load_embedder
from vssl_training.loop import autotune as tuning
from vssl_training.loop.job import StartingWeights, TrainingOptions
from vssl_training.loop.progress import Progress
from vssl_training.loop.training import train
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.numerics import Numerics
from vssl_training.run.record import Budget


@pytest.fixture(scope="module")
def pixels(fashion_folder: Path) -> torch.Tensor:
    return torch.from_numpy(load_images(open_source(str(fashion_folder)), Preprocessing(32)).pixels)


def test_the_second_phase_alone_keeps_the_encoder(
    finished_run: Path, fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    options = TrainingOptions(start=StartingWeights(finished_run, variance_only=True))
    train(
        small_recipe,
        str(fashion_folder),
        tmp_path / "run",
        Budget(steps=5),
        seed=1,
        options=options,
    )
    run = Run(tmp_path / "run")
    record = run.record()
    assert (record.schedule.encoder, record.schedule.variance) == (0, 5)
    assert record.init is not None
    before, after = load_file(Run(finished_run).weights_path), load_file(run.weights_path)
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(equal for name, equal in same.items() if name.startswith(("backbone.", "mean.")))
    assert not all(same.values())


def test_other_weights_are_refused(finished_run: Path, small_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="do not fit the backbone"):
        initial_encoder(override(small_recipe, ["network.width=16"]), finished_run, 0)
    with pytest.raises(UsageError, match="neither a file of weights nor a run"):
        initial_encoder(small_recipe, tmp_path, 0)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="no safetensors file"):
        initial_encoder(small_recipe, tmp_path / "x.safetensors", 0)
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="no checkpoint"):
        initial_encoder(small_recipe, tmp_path / "x.pt", 0)


@pytest.mark.parametrize("content", [{"conv.weight": torch.zeros(3)}, [1], {"student": 3}, {"student": {}}])
def test_a_file_without_weights_of_a_run_is_one_line(small_recipe: Recipe, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"other\.pth: holds no weights of a run"):
        initial_encoder(small_recipe, tmp_path / "other.pth", 0)


def test_a_run_starts_from_the_file_that_export_writes(
    finished_run: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    from vssl_export.weights import write_weights

    write_weights(finished_run, tmp_path / "backbone.safetensors")
    encoder, fresh = initial_encoder(small_recipe, tmp_path / "backbone.safetensors", 0)
    assert fresh == ["mean", "log_variance"]
    wanted = load_embedder(Run(finished_run)).backbone.state_dict()
    torch.testing.assert_close(encoder.backbone.state_dict(), wanted, rtol=0, atol=0)


def test_heads_of_another_size_start_anew(finished_run: Path, small_recipe: Recipe) -> None:
    encoder, fresh = initial_encoder(override(small_recipe, ["network.dimension=8"]), finished_run, 0)
    assert fresh == ["mean", "log_variance"]
    weights = load_file(Run(finished_run).weights_path)
    torch.testing.assert_close(encoder.backbone.state_dict()["stem.0.weight"], weights["backbone.stem.0.weight"])


def test_epochs_are_the_encoders_and_a_joint_head_needs_no_second_phase(
    fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(small_recipe, ["network.embedding={of: mean}", "variance.joint=true", "objective.form=B"])
    train(recipe, str(fashion_folder), tmp_path / "run", Budget(epochs=3), seed=0)
    run = Run(tmp_path / "run")
    assert (run.record().schedule.encoder, run.record().schedule.variance) == (3 * (40 // 16), 0)
    _, variance, uncertainty = load_embedder(run)(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    assert variance.shape == (1, 16)
    assert uncertainty.isfinite().all()


def test_every_switch_and_small_crops_train(pixels: torch.Tensor, small_recipe: Recipe) -> None:
    """Compilation apart: it takes longer than all other tests of this file."""
    recipe = override(
        small_recipe, ["views.small_crops.count=2", "views.small_crops.size=16", "objective.contrastive=1"]
    )
    phase = EncoderTraining(recipe, pixels, 0, 30, Numerics(channels_last=True, bf16=True, fused=True))
    assert [tuple(view.shape) for view in phase.views(29)] == [(32, 3, 24, 24), (32, 3, 16, 16)]
    losses = [phase.step(step)["loss"].item() for step in range(30)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_autotune_keeps_what_pays(
    pixels: torch.Tensor, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a clock of our own: a switch that is faster, one that is slower, one that fails, one within the noise."""
    factors = {"channels_last": 0.5, "bf16": 3.0, "fused": 0.99}

    def measure(*phases: EncoderTraining) -> list[float]:
        if any(phase.numerics.compile for phase in phases):
            raise RuntimeError("no compiler here")
        switches = [[switch for switch in factors if getattr(phase.numerics, switch)] for phase in phases]
        return [math.prod(factors[switch] for switch in on) for on in switches]

    monkeypatch.setattr(tuning, "quickest_steps", measure)
    assert tuning.autotune(small_recipe, pixels, Progress()) == Numerics(channels_last=True)
    told = capsys.readouterr().err
    assert "channels_last 2.00 times as fast (500 ms a step): on" in told
    assert "compile does not work here: no compiler here" in told


def test_quickest_steps_are_of_each_phase(pixels: torch.Tensor, small_recipe: Recipe) -> None:
    small, large = (EncoderTraining(override(small_recipe, [f"network.width={w}"]), pixels, 0, 100) for w in (8, 64))
    quick, slow = tuning.quickest_steps(small, large)
    assert 0 < quick < slow


def test_a_resumed_run_keeps_its_switches(fashion_folder: Path, small_recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_recipe, str(fashion_folder), out, Budget(steps=4), seed=0)
    kept = Run(out).record().speed
    train(small_recipe, str(fashion_folder), out, Budget(steps=4), seed=0, options=TrainingOptions(tune=True))
    assert Run(out).record().speed == kept

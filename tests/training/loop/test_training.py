"""Whole runs on real images: what they leave, exact resume, and what stops them."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.bad_files import bad_files
from tests.command_line import vssl_here
from tests.training.killed import killed_after
from vssl.errors import UsageError, VsslError
from vssl.files import locked
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.weights import load_embedder
from vssl_training.loop.job import TrainingOptions
from vssl_training.loop.steps import interrupts
from vssl_training.loop.training import train
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget

VSSL = Path(sys.executable).parent / "vssl"
STEPS = ["--steps", "40"]


def command(data: Path, out: Path, flags: list[str]) -> list[str]:
    return [str(VSSL), "train", "--data", str(data), "--out", str(out), *flags]


def test_a_finished_run_holds_what_the_design_names(finished_run: Path) -> None:
    run = Run(finished_run)
    record = run.record()
    assert record.schedule.encoder + record.schedule.variance == 40
    lines = run.metrics()
    assert [line["step"] for line in lines if line["phase"] == "encoder"][-1] == record.schedule.encoder
    judged = [line for line in lines if "knn" in line]
    assert judged
    assert all(0 <= line["knn"] <= 1 and 1 <= line["rank"] <= 16 and line["std"] > 0 for line in judged)
    assert run.sample().shape == (40, 32, 32, 3)
    assert load_embedder(run)(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))[0].shape == (1, 16)
    assert all(not path.name.endswith(".tmp") for path in finished_run.rglob("*"))


def test_a_run_of_an_earlier_version_is_refused_by_name(finished_run: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    text = Run(finished_run).record_path.read_text()
    assert text.startswith("vssl: ")
    run.record_path.write_text(text.partition("\n")[2])
    with pytest.raises(UsageError, match=r"a run of vssl 0\.1"):
        run.record()


@pytest.mark.parametrize("text", ["", "recipe: 3", "[1]", "recipe: {variance: no}", "{"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"recipe\.yaml: damaged"):
        Run(tmp_path).record()


def test_training_lowers_the_loss_and_leaves_the_teacher_behind_the_student(
    fashion_folder: Path, small_recipe: Recipe
) -> None:
    pixels = torch.from_numpy(load_images(open_source(str(fashion_folder)), Preprocessing(32)).pixels)
    phase = EncoderTraining(small_recipe, pixels, seed=0, steps=60)
    losses = [phase.step(step)["loss"].item() for step in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert phase.teacher is not None
    pairs = zip(phase.student.parameters(), phase.teacher.parameters(), strict=True)
    assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)
    assert all(parameter.grad is None for parameter in phase.teacher.parameters())


def test_same_seed_same_weights_other_seed_other_weights(
    fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        train(small_recipe, str(fashion_folder), tmp_path / name, Budget(steps=4), seed)
    assert same_weights(tmp_path / "one", tmp_path / "same")
    assert not same_weights(tmp_path / "one", tmp_path / "other")


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = load_file(Run(a).weights_path), load_file(Run(b).weights_path)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kill_after", [*(pytest.param(step, marks=pytest.mark.slow) for step in (1, 17, 35)), 37])
def test_a_killed_run_goes_on_to_the_same_weights(
    finished_run: Path, fashion_folder: Path, small_recipe: Recipe, tmp_path: Path, kill_after: int
) -> None:
    """SIGKILL the moment that log line number `kill_after` is on disk."""
    kill_and_go_on(fashion_folder, small_recipe, tmp_path / "run", kill_after)
    assert same_weights(finished_run, tmp_path / "run")
    steps = [(line["phase"], line["step"]) for line in Run(tmp_path / "run").metrics()]
    assert steps == [(line["phase"], line["step"]) for line in Run(finished_run).metrics()]


@pytest.mark.slow  # the others that are killed are its small form
def test_a_head_by_neighbours_that_was_killed_goes_on_with_its_own_bank(
    fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = override(small_recipe, ["variance.target=neighbour", "variance.bank=24"])
    train(recipe, str(fashion_folder), tmp_path / "whole", Budget(steps=40), 0)
    kill_and_go_on(fashion_folder, recipe, tmp_path / "run", 36)
    assert same_weights(tmp_path / "whole", tmp_path / "run")


def kill_and_go_on(data: Path, recipe: Recipe, out: Path, kill_after: int) -> None:
    flags = [part for key, value in leaves(recipe) for part in ("--set", f"{key}={value}")]
    arguments = command(data, out, [*flags, *STEPS])
    line = [sys.executable, "-c", killed_after(kill_after), *arguments[1:]]
    killed = subprocess.run(line, stderr=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(Run(out).metrics()) == kill_after
    assert not Run(out).finished
    vssl_here(*arguments[1:])


def leaves(recipe: Recipe) -> list[tuple[str, str]]:
    from vssl_training.run.folder import flatten

    return [(key, json.dumps(value)) for key, value in flatten(recipe.model_dump(mode="json")).items() if "." in key]


def test_interrupt_saves_and_says_so(fashion_folder: Path, tmp_path: Path, small_flags: list[str]) -> None:
    out = tmp_path / "run"
    arguments = command(fashion_folder, out, [*small_flags, "--steps", "3000"])
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not Run(out).metrics():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in errors
    assert "Traceback" not in errors
    checkpoint = Run(out).load_checkpoint(torch.device("cpu"))
    assert checkpoint is not None
    assert checkpoint["step"] >= 1


def test_two_processes_never_train_the_same_run(fashion_folder: Path, small_recipe: Recipe, tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(UsageError, match="another vssl process"):
        train(small_recipe, str(fashion_folder), tmp_path / "run", Budget(steps=4), seed=0)


def test_a_second_interrupt_acts_at_once() -> None:
    with interrupts() as received:
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_settings_than_the_runs_are_refused(
    finished_run: Path, fashion_folder: Path, small_recipe: Recipe
) -> None:
    changed = override(small_recipe, ["optimiser.batch=8"])
    with pytest.raises(UsageError, match=r"recipe\.optimiser\.batch = 16, this command has 8"):
        train(changed, str(fashion_folder), finished_run, Budget(steps=40), seed=0)
    with pytest.raises(UsageError, match=r"budget\.steps = 40, this command has 50"):
        train(small_recipe, str(fashion_folder), finished_run, Budget(steps=50), seed=0)


def test_a_folder_that_is_no_run_is_left_alone(fashion_folder: Path, small_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a run"):
        train(small_recipe, str(fashion_folder), tmp_path, Budget(steps=4), seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_start_that_was_killed_is_started_again(
    finished_run: Path, fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    """What a kill between the first file and the record leaves: the record makes a folder a run."""
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / ".sample.npy.x1.tmp").write_bytes(b"half")
    shutil.copy(Run(finished_run).sample_path, out)
    train(small_recipe, str(fashion_folder), out, Budget(steps=40), seed=0)
    assert same_weights(finished_run, out)


def test_bad_files_are_named_and_the_rest_is_trained_on(
    fashion_folder: Path, tmp_path: Path, small_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(fashion_folder, data)
    for name, content in bad_files().items():
        (data / "bag" / name).write_bytes(content)
    skipped = train(
        small_recipe, str(data), tmp_path / "run", Budget(steps=4), seed=0, options=TrainingOptions(max_unreadable=0.2)
    )
    assert sorted(path for path, _ in skipped) == sorted(f"bag/{name}" for name in bad_files())
    assert Run(tmp_path / "run").record().data.images == 40
    assert "skipped bag/empty.jpg: the file is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe", "none"], "no recipe 'none'"),
        (["--set", "optimiser.batch=0"], "optimiser.batch"),
        (["--max-minutes", "-1"], "minutes"),
        (["--steps", "1"], "steps"),
        (["--steps", "5", "--max-minutes", "1"], "exclude each other"),
    ],
)
def test_bad_flags_are_one_line_and_status_2(
    fashion_folder: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    done = vssl_here(*command(fashion_folder, tmp_path / "run", flags)[1:], status=2)
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_data_that_holds_nothing_to_train_on(tmp_path: Path, small_recipe: Recipe) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        train(small_recipe, str(tmp_path / "empty"), tmp_path / "run", Budget(steps=4), seed=0)
    with pytest.raises(UsageError, match="no such file"):
        train(small_recipe, str(tmp_path / "missing"), tmp_path / "run", Budget(steps=4), seed=0)
    (tmp_path / "empty" / "a.jpg").write_bytes(b"text")
    with pytest.raises(UsageError, match="none of 1 files can be read"):
        train(small_recipe, str(tmp_path / "empty"), tmp_path / "run", Budget(steps=4), seed=0)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on_behind_it(
    finished_run: Path, fashion_folder: Path, tmp_path: Path, small_flags: list[str]
) -> None:
    """A limit on file size stands in for a full disk: the same error from the same write."""
    out = tmp_path / "run"
    arguments = command(fashion_folder, out, [*small_flags, *STEPS])
    limited = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (130_000, 130_000)),
    )
    assert limited.returncode == 1
    assert "Traceback" not in limited.stderr
    assert "File too large" in limited.stderr
    assert not list(out.rglob("*.tmp"))
    vssl_here(*arguments[1:])
    assert same_weights(finished_run, out)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_remedy(
    fashion_folder: Path, tmp_path: Path, small_recipe: Recipe
) -> None:
    wild = override(small_recipe, ["optimiser.learning_rate=1e30"])
    with pytest.raises(VsslError, match=r"not finite .* Lower optimiser\.learning_rate"):
        train(wild, str(fashion_folder), tmp_path / "run", Budget(steps=40), seed=0)


def test_a_damaged_checkpoint_is_named(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    run = Run(tmp_path / "run")
    run.checkpoint_path.write_bytes(run.checkpoint_path.read_bytes()[:1000])
    with pytest.raises(VsslError, match=r"last\.pt: damaged"):
        run.load_checkpoint(torch.device("cpu"))

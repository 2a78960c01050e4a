"""Two processes take the steps that one would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vssl.errors import UsageError
from vssl_training.run import processes
from vssl_training.run.folder import Run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Losses and weights after steps of both phases, with every term that looks at the whole batch."""
    weights, losses = [], []
    for name, launcher in (("one", [sys.executable]), ("two", TORCHRUN)):
        done = run(*launcher, "-m", "tests.training.some_steps", str(tmp_path / name))
        losses.append(json.loads(done.stdout.splitlines()[-1]))
        weights.append(torch.load(tmp_path / name, weights_only=True))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-6, atol=1e-7, msg=key)


@pytest.mark.slow  # test_two_processes_equal_one is its small form
def test_a_whole_run_in_two_processes(fashion_folder: Path, tmp_path: Path, small_flags: list[str]) -> None:
    arguments = ["-m", "vssl_training", "train", "--data", str(fashion_folder), "--out", str(tmp_path / "run")]
    done = run(*TORCHRUN, *arguments, *small_flags, "--max-minutes", "0.1")
    assert done.stderr.count("reading ") == 1  # one of them speaks, and writes
    record = Run(tmp_path / "run").record()
    assert [line["step"] for line in Run(tmp_path / "run").metrics()][-1] == record.schedule.variance
    assert Run(tmp_path / "run").finished


@pytest.mark.slow
def test_a_run_that_not_every_process_sees_is_refused(
    fashion_folder: Path, tmp_path: Path, small_flags: list[str]
) -> None:
    """As on two nodes without a shared file system: the second process looks elsewhere."""
    elsewhere = "import os; os.environ['RANK'] == '1' and os.chdir(os.environ['ELSEWHERE']); "
    program = elsewhere + "from vssl.cli import main; main()"
    flags = ["train", "--data", str(fashion_folder), "--out", "run", *small_flags, "--steps", "4"]
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ELSEWHERE": str(tmp_path / "elsewhere")}
    done = subprocess.run(
        [*TORCHRUN, "--no-python", sys.executable, "-c", program, *flags],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "vssl: run: not every process sees this folder" in done.stderr


def test_a_batch_is_shared_equally_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "size", lambda: 4)
    monkeypatch.setattr(processes, "rank", lambda: 2)
    assert processes.process_slice(12) == slice(6, 9)
    with pytest.raises(UsageError, match="10 images can't be shared equally by 4 processes"):
        processes.process_slice(10)


def test_one_process_leaves_everything_as_it_is() -> None:
    values = torch.rand(4, 3)
    assert processes.gather(values, 2) is values
    assert processes.broadcast("x") == "x"
    assert processes.any_process([False, True]) == [False, True]
    module = torch.nn.BatchNorm1d(3)
    assert processes.shared_norms(module, torch.device("cpu")) is module

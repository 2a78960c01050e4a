"""TensorBoard, W&B and MLflow are each told what `metrics.jsonl` is told, read back by their own readers."""

import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import vssl_here
from vssl.errors import UsageError
from vssl_training.loop import loggers
from vssl_training.loop.job import TrainingOptions
from vssl_training.loop.loggers import following
from vssl_training.loop.training import train
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget, RunRecord

Points = dict[str, list[tuple[int, float]]]


def told(run: Run) -> Points:
    """What the services should hold: name → (step, value)."""
    offset = run.record().schedule.encoder
    points: Points = {}
    for line in run.metrics():
        step = line["step"] + (offset if line["phase"] == "variance" else 0)
        for name in line.keys() - {"phase", "step"}:
            points.setdefault(f"{line['phase']}/{name}", []).append((step, line[name]))
    return points


def same(found: Points, wanted: Points) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert [step for step, _ in found[name]] == [step for step, _ in wanted[name]]
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in wanted[name]], rel=1e-6)


def replay(run: Run, lines: list[dict[str, Any]], name: str) -> None:
    """Tell one service some lines of a run, as a process that trains it does."""
    said: list[str] = []
    with following(run, run.record(), [name], said.append):
        for line in lines:
            for listener in run.listeners:
                listener(line)
    assert said == []
    assert run.listeners == []


def read_tensorboard(run: Run) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"), {"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_run_is_followed_by_tensorboard(fashion_folder: Path, small_recipe: Recipe, tmp_path: Path) -> None:
    train(
        small_recipe,
        str(fashion_folder),
        tmp_path / "run",
        Budget(steps=6),
        seed=0,
        options=TrainingOptions(log=("tensorboard",)),
    )
    run = Run(tmp_path / "run")
    same(read_tensorboard(run), told(run))


def copied(finished_run: Path, tmp_path: Path) -> Run:
    """The record and metrics of a finished run, at a place of its own."""
    run = Run(tmp_path / "run")
    run.path.mkdir()
    for path in (run.record_path, run.metrics_path):
        path.write_bytes((finished_run / path.name).read_bytes())
    return run


def test_steps_that_were_lost_are_taken_back_in_tensorboard(finished_run: Path, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path)
    lines = run.metrics()
    replay(
        run, [line | {"loss": -1.0} if number > 5 else line for number, line in enumerate(lines[:10])], "tensorboard"
    )
    replay(run, lines[6:], "tensorboard")
    same(read_tensorboard(run), told(run))


def logged(data: bytes) -> Iterator[bytes]:
    """Records of a `.wandb` file: LevelDB's log format after a header of 7 bytes."""
    place, record = 7, b""
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_offline(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_type = pytest.importorskip("wandb.proto.wandb_internal_pb2").Record
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = copied(finished_run, tmp_path)
    replay(run, run.metrics(), "wandb")
    pytest.importorskip("wandb").teardown()  # its service is a process of its own, which may still write
    files = list(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 1
    points: Points = {}
    for data in logged(files[0].read_bytes()):
        record = record_type.FromString(data)
        items = {item.key or "/".join(item.nested_key): float(item.value_json) for item in record.history.item}
        for name in items:
            if not name.startswith("_"):
                points.setdefault(name, []).append((int(items["_step"]), items[name]))
    same(points, told(run))


def test_mlflow_in_a_file_goes_on_with_the_same_run(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes all of mlflow, files its small part
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    run = copied(finished_run, tmp_path)
    lines = run.metrics()
    replay(run, lines[:5], "mlflow")
    replay(run, lines[5:], "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("vssl")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params == {"recipe": "quick", "seed": "0"}
    recipe = client.download_artifacts(found.info.run_id, "recipe.yaml", str(tmp_path))
    assert RunRecord.model_validate(yaml.safe_load(Path(recipe).read_text())) == run.record()
    points = {
        name: [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
    }
    same(points, told(run))


class Broken:
    """A service that goes away."""

    def __init__(self, run: Run, record: object) -> None:
        self.calls = 0

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        raise ConnectionError("gone")

    def close(self) -> None:
        raise AssertionError("closed after it failed")


def test_a_service_that_fails_does_not_stop_the_run(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loggers.LOGGERS, "broken", Broken)
    run, said = copied(finished_run, tmp_path), list[str]()
    with following(run, run.record(), ["broken"], said.append):
        run.log(phase="encoder", step=1, loss=1.0)
        run.log(phase="encoder", step=2, loss=1.0)
    assert said == ["broken no longer follows this run: gone"]


@pytest.mark.parametrize(("name", "extra"), [("tensorboard", "train"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_service_that_is_not_installed(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    for module in [found for found in sys.modules if found.split(".")[0] == name or "utils.tensorboard" in found]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    run = Run(finished_run)
    with pytest.raises(UsageError, match=rf"--log {name} needs {name}: pip install 'vssl\[{extra}\]'"):
        following(run, run.record(), [name], print).__enter__()


def test_a_service_that_there_is_none_of(fashion_folder: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(fashion_folder), "--out", str(tmp_path / "run"), "--log", "paper"]
    done = vssl_here(*arguments, status=2)
    assert "--log paper: there are tensorboard, wandb, mlflow" in done.stderr
    assert not (tmp_path / "run").exists()

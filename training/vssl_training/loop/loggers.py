"""Services that a run's figures are also sent to: TensorBoard, Weights & Biases, MLflow.

A run relies on `metrics.jsonl`; these services only follow, and none of them can stop a run. Their own variables say
where the figures go, and whether over the network: `WANDB_MODE=offline`, `MLFLOW_TRACKING_URI`, …
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from vssl.errors import UsageError
from vssl_training.run.folder import Run
from vssl_training.run.record import RunRecord


class Logger(Protocol):
    """An open connection to one service."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures, named `phase/name`, of one step; steps of the second phase count on from the first."""
        ...

    def close(self) -> None:
        """Send what is waiting; the run is over, or stopped."""
        ...


class TensorBoard:
    """Event files in `run/tensorboard`."""

    def __init__(self, run: Run, record: RunRecord) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = partial(SummaryWriter, run.path / "tensorboard")
        self._writer: SummaryWriter | None = None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Logger`. Later steps of a run that was killed are taken back."""
        self._writer = self._writer or self._open(purge_step=step)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Logger`."""
        if self._writer is not None:
            self._writer.close()


class WandB:
    """A run of the project `vssl` (or `WANDB_PROJECT`); a resumed run is the same one."""

    def __init__(self, run: Run, record: RunRecord) -> None:
        # Its own 30 s for its service to start are too short on a machine that trains.
        os.environ.setdefault("WANDB__SERVICE_WAIT", "300")
        import wandb

        config = record.model_dump(mode="json")
        project, name = os.environ.get("WANDB_PROJECT", "vssl"), run.path.resolve().name
        self._run = wandb.init(
            project=project, name=name, id=identity(run), resume="allow", config=config, dir=run.path
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Logger`."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """See `Logger`."""
        self._run.finish()


class MLflow:
    """A run of the experiment `vssl` (or `MLFLOW_EXPERIMENT_NAME`); a resumed run is the same one."""

    def __init__(self, run: Run, record: RunRecord) -> None:
        import mlflow

        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "vssl")).experiment_id
        self._client, self._step = mlflow.MlflowClient(), 0
        tags = {"vssl.run": identity(run)}
        found = self._client.search_runs([experiment], f"tags.`vssl.run` = '{tags['vssl.run']}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(experiment, tags=tags, run_name=run.path.resolve().name).info.run_id
            self._client.log_dict(self._id, record.model_dump(mode="json"), "recipe.yaml")
            self._client.log_param(self._id, "recipe", record.recipe.name)
            self._client.log_param(self._id, "seed", record.seed)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Logger`."""
        for name, value in figures.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        """See `Logger`."""
        self._client.set_terminated(self._id)


LOGGERS: dict[str, Callable[[Run, RunRecord], Logger]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
EXTRAS = {"tensorboard": "train", "wandb": "wandb", "mlflow": "mlflow"}


@contextmanager
def following(run: Run, record: RunRecord, names: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Send what `run.log` writes to the named services until the end. A service that fails is named and left out.

    Raises:
        UsageError: the package of a service is not installed, or it refuses.
    """
    loggers = {name: connect(name, run, record) for name in dict.fromkeys(names)}

    def forward(fields: Mapping[str, Any]) -> None:
        step = fields["step"] + (record.schedule.encoder if fields["phase"] == "variance" else 0)
        figures = {f"{fields['phase']}/{name}": fields[name] for name in fields if name not in ("phase", "step")}
        for name, logger in list(loggers.items()):
            try:
                logger.log(step, figures)
            except Exception as error:  # no failure of a service ends hours of training
                del loggers[name]
                say(f"{name} no longer follows this run: {error}")

    run.listeners.append(forward)
    try:
        yield
    finally:
        run.listeners.remove(forward)
        for name, logger in loggers.items():
            try:
                logger.close()
            except Exception as error:
                say(f"{name}: {error}")


def check_loggers(names: Sequence[str]) -> None:
    """Refuse unknown services before anything begins.

    Raises:
        UsageError: one is not known.
    """
    for name in names:
        if name not in LOGGERS:
            raise UsageError(f"--log {name}: there are {', '.join(LOGGERS)}")


def connect(name: str, run: Run, record: RunRecord) -> Logger:
    """The connection to one service."""
    try:
        return LOGGERS[name](run, record)
    except ModuleNotFoundError as error:
        raise UsageError(f"--log {name} needs {error.name}: pip install 'vssl[{EXTRAS[name]}]'") from error
    except Exception as error:
        raise UsageError(f"--log {name}: {error}") from error


def identity(run: Run) -> str:
    """A name of this run alone: another one at the same place was begun at another time."""
    begun = run.record_path.stat().st_mtime_ns
    return hashlib.sha256(f"{run.path.resolve()} {begun}".encode()).hexdigest()[:16]

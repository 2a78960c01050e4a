"""The run directory: `recipe.yaml` as resolved, `metrics.jsonl`, `checkpoints/`, and the weights at the end."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from pydantic import Field, ValidationError, model_validator

from vssl.errors import UsageError, VsslError
from vssl.files import atomic_write
from vssl.images import ImageSet
from vssl.preprocessing import Preprocessing
from vssl_training.embedder import Embedder, build_embedder
from vssl_training.recipe import Recipe, Section

SAMPLE = 256
"""Decoded training images kept with the run: export compares ONNX Runtime with torch on them."""


class DataRecord(Section):
    """What was trained on: `location` as given, number of images, and a hash of their pixels."""

    location: str
    images: int
    sha256: str


class Schedule(Section):
    """Optimiser steps of the two phases: `encoder`, then `variance`."""

    encoder: int = Field(ge=1)
    variance: int = Field(ge=1)


class Budget(Section):
    """What was asked for: minutes of wall time, or a number of steps."""

    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _one(self) -> "Budget":
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("a budget is either minutes or steps")
        return self


class RunRecord(Section):
    """Everything that decides a run's result, as `recipe.yaml` holds it."""

    recipe: Recipe
    seed: int
    data: DataRecord
    budget: Budget
    schedule: Schedule


class Run:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_path = path / "recipe.yaml"
        self.metrics_path = path / "metrics.jsonl"
        self.weights_path = path / "weights.safetensors"
        self.report_path = path / "report.html"
        self.sample_path = path / "sample.npy"
        self.checkpoint_path = path / "checkpoints" / "last.pt"

    @property
    def finished(self) -> bool:
        """Whether both phases are done: the weights are written last."""
        return self.weights_path.exists()

    def record(self) -> RunRecord:
        """Read `recipe.yaml`.

        Raises:
            UsageError: there is no run here, or its recipe is damaged.
        """
        if not self.record_path.is_file():
            raise UsageError(f"{self.path}: no run here ({self.record_path.name} is missing); `vssl train` makes one")
        try:
            return RunRecord.model_validate(yaml.safe_load(self.record_path.read_text()))
        except (ValidationError, yaml.YAMLError) as error:
            raise UsageError(f"{self.record_path}: damaged, or written by another version of vssl: {error}") from error

    def start(self, record: RunRecord, images: ImageSet) -> None:
        """Make the directory and write what is fixed at the start; the record last, since it makes this a run.

        Raises:
            UsageError: something is in the way that is not a start that was killed.
        """
        ours = {self.checkpoint_path.parent.name, self.sample_path.name, "_lock"}
        if self.path.is_file() or (self.path.exists() and {entry.name for entry in visible(self.path)} - ours):
            raise UsageError(f"{self.path}: exists and is not a run; name a new folder")
        self.checkpoint_path.parent.mkdir(parents=True, exist_ok=True)
        picked = np.random.default_rng(record.seed).choice(len(images), min(SAMPLE, len(images)), replace=False)
        with atomic_write(self.sample_path) as file:
            np.save(file, images.pixels[np.sort(picked)])
        with atomic_write(self.record_path) as file:
            file.write(yaml.safe_dump(record.model_dump(mode="json"), sort_keys=False).encode())

    def sample(self) -> npt.NDArray[np.uint8]:
        """A few hundred of the run's images, uint8 [n, S, S, 3]."""
        return np.load(self.sample_path, allow_pickle=False)  # type: ignore[no-any-return]

    def log(self, **fields: Any) -> None:  # noqa: ANN401 — any JSON value
        """Append one line to `metrics.jsonl`."""
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of `metrics.jsonl`; a last line that was cut off by a kill is passed over."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def save_checkpoint(self, state: Mapping[str, Any], phase: str, step: int) -> None:
        """Write the state atomically over the last checkpoint: a full disk leaves the last good one."""
        # Through memory: torch.save on a full disk raises an error of its own that hides the disk's.
        buffer = io.BytesIO()
        torch.save({"phase": phase, "step": step, **state}, buffer)
        with atomic_write(self.checkpoint_path) as file:
            file.write(buffer.getbuffer())

    def read_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint on a device, or None.

        Raises:
            VsslError: the file is damaged.
        """
        if not self.checkpoint_path.exists():
            return None
        try:
            checkpoint: dict[str, Any] = torch.load(self.checkpoint_path, map_location=device, weights_only=True)
        except Exception as error:
            # A damaged archive shows as anything from RuntimeError to UnpicklingError.
            raise VsslError(f"{self.checkpoint_path}: damaged ({error}); remove the run and start again") from error
        return checkpoint

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint to go on from, or None; lines of `metrics.jsonl` that came after it are dropped.

        Raises:
            VsslError: the file is damaged.
        """
        checkpoint = self.read_checkpoint(device)
        if checkpoint is None:
            self.metrics_path.unlink(missing_ok=True)
            return None
        done = (checkpoint["phase"] == "variance", checkpoint["step"])
        kept = [line for line in self.metrics() if (line["phase"] == "variance", line["step"]) <= done]
        with atomic_write(self.metrics_path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        return checkpoint

    def load_embedder(self) -> Embedder:
        """The finished run's network, ready to embed.

        Raises:
            UsageError: the run is not finished.
        """
        from safetensors.torch import load_file

        record = self.record()
        if not self.finished:
            raise UsageError(f"{self.path}: the run is not finished; run the same `vssl train` command again")
        embedder = build_embedder(record.recipe)
        embedder.load_state_dict(load_file(self.weights_path))
        return embedder.eval()

    def save_weights(self, embedder: Embedder) -> None:
        """Write `weights.safetensors`: the run is finished."""
        from safetensors.torch import save

        weights = {name: tensor.cpu().contiguous() for name, tensor in embedder.state_dict().items()}
        with atomic_write(self.weights_path) as file:
            file.write(save(weights))


def visible(folder: Path) -> list[Path]:
    """Entries of a folder but those that start with a dot, such as files that were half written when we were killed."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """How this recipe's images become pixels."""
    return Preprocessing(size=recipe.image.size, crop=recipe.image.crop)


def record_data(location: str, images: ImageSet) -> DataRecord:
    """Describe the data that a run trains on."""
    digest = hashlib.sha256(images.pixels.data).hexdigest()
    return DataRecord(location=location, images=len(images), sha256=digest)

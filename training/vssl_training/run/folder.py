"""The run directory: `recipe.yaml` as resolved, `metrics.jsonl`, `checkpoints/`, and the weights at the end."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from pydantic import ValidationError
from torch import nn

from vssl.bundle.calibration_record import Calibration
from vssl.errors import UsageError, VsslError
from vssl.files import atomic_write
from vssl.sources.in_memory import ImageSet
from vssl_training.run.record import RunRecord

SAMPLE = 256
"""Decoded training images kept with the run: export compares ONNX Runtime with torch on them."""


class Run:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self.record_path = path / "recipe.yaml"
        self.metrics_path = path / "metrics.jsonl"
        self.weights_path = path / "weights.safetensors"
        self.report_path = path / "report.html"
        self.sample_path = path / "sample.npy"
        self.calibration_path = path / "calibration.json"
        self.cache_path = path / "cache"
        self.checkpoint_path = path / "checkpoints" / "last.pt"
        self.good_path = path / "checkpoints" / "good.pt"

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
            fields = yaml.safe_load(self.record_path.read_text())
        except yaml.YAMLError as error:
            raise UsageError(f"{self.record_path}: damaged: {error}") from error
        earlier: str | None = None
        match fields:
            case {"recipe": _, "seed": _, "schedule": _, **rest} if "vssl" not in rest:
                earlier = "0.1, whose recipes had other keys"
            case {"recipe": {"network": {"whitening": _}}}:
                earlier = "0.2.0, whose recipes had network.whitening"
        if earlier is not None:
            raise UsageError(
                f"{self.path}: a run of vssl {earlier}: go on with it and export it by that version, or train a new run"
            )
        try:
            return RunRecord.model_validate(fields)
        except ValidationError as error:
            raise UsageError(f"{self.record_path}: damaged, or written by another version of vssl: {error}") from error

    def start(self, record: RunRecord, images: ImageSet) -> None:
        """Make the directory and write what is fixed at the start; the record last, since it makes this a run.

        Raises:
            UsageError: something is in the way that is not a start that was killed.
        """
        own_entries = {self.checkpoint_path.parent.name, self.sample_path.name, self.cache_path.name, "_lock"}
        if self.path.is_file() or (self.path.exists() and {entry.name for entry in visible(self.path)} - own_entries):
            raise UsageError(f"{self.path}: exists and is not a run; name a new folder")
        self.checkpoint_path.parent.mkdir(parents=True, exist_ok=True)
        picked = np.random.default_rng(record.seed).choice(len(images), min(SAMPLE, len(images)), replace=False)
        with atomic_write(self.sample_path) as file:
            buffer = io.BytesIO()  # numpy writes a real file by itself, and tells of a full disk in numbers
            np.save(buffer, images.pixels[np.sort(picked)])
            file.write(buffer.getbuffer())
        with atomic_write(self.record_path) as file:
            file.write(yaml.safe_dump(record.model_dump(mode="json"), sort_keys=False).encode())

    def sample(self) -> npt.NDArray[np.uint8]:
        """A few hundred of the run's images, uint8 [n, S, S, 3]."""
        return np.load(self.sample_path, allow_pickle=False)  # type: ignore[no-any-return]

    def log(self, **fields: Any) -> None:  # noqa: ANN401 — any JSON value
        """Append one line to `metrics.jsonl`, and tell the listeners."""
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(fields) + "\n")
        for listener in self.listeners:
            listener(fields)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of `metrics.jsonl`; a last line that a kill cut off is skipped."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def save_checkpoint(self, state: Mapping[str, Any], phase: str, step: int, good: bool = False) -> None:
        """Write the state atomically over the last checkpoint: a full disk leaves the last good one.

        `good`: it was judged to be healthy, and is kept beside the last one too until the next that is.
        """
        # Through memory: torch.save on a full disk raises an error of its own that hides the disk's.
        buffer = io.BytesIO()
        torch.save({"phase": phase, "step": step, **state}, buffer)
        for path in [self.checkpoint_path, self.good_path][: 1 + good]:
            with atomic_write(path) as file:
                file.write(buffer.getbuffer())

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint to go on from, or None; lines of `metrics.jsonl` that came after it are dropped.

        Raises:
            VsslError: the file is damaged.
        """
        if not self.checkpoint_path.exists():
            self.metrics_path.unlink(missing_ok=True)
            return None
        checkpoint = read_checkpoint(self.checkpoint_path, device)
        done = (checkpoint["phase"] == "variance", checkpoint["step"])
        kept = [line for line in self.metrics() if (line["phase"] == "variance", line["step"]) <= done]
        with atomic_write(self.metrics_path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        return checkpoint

    def save_calibration(self, calibration: Calibration, files: Mapping[str, bytes]) -> None:
        """Write a calibration that bundles of this run start with, and the files that it names."""
        record = calibration.model_dump_json(indent=1).encode()
        for name, data in {**files, self.calibration_path.name: record}.items():
            with atomic_write(self.path / name) as file:
                file.write(data)

    def calibration(self) -> tuple[Calibration | None, dict[str, bytes]]:
        """What `save_calibration` wrote, if it did.

        Raises:
            UsageError: it is damaged.
        """
        if not self.calibration_path.is_file():
            return None, {}
        try:
            found = Calibration.model_validate_json(self.calibration_path.read_bytes())
        except ValidationError as error:
            raise UsageError(f"{self.calibration_path}: damaged: {error}; attach again to another folder") from error
        names = [] if found.familiarity is None else [found.familiarity.file]
        return found, {name: (self.path / name).read_bytes() for name in names}

    def save_weights(self, embedder: nn.Module) -> None:
        """Write `weights.safetensors`: the run is finished."""
        from safetensors.torch import save

        weights = {name: tensor.cpu().contiguous() for name, tensor in embedder.state_dict().items()}
        with atomic_write(self.weights_path) as file:
            file.write(save(weights))


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A file that `Run.save_checkpoint` wrote, on a device.

    Raises:
        VsslError: the file is damaged.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        # A damaged archive shows as anything from RuntimeError to UnpicklingError.
        raise VsslError(f"{path}: damaged ({error}); remove the run and start again") from error
    return checkpoint


def check_same(run: Run, found: RunRecord, wanted: RunRecord) -> None:
    """Refuse to go on with a run under other settings, naming the first that differs."""
    before, now = flatten(found.model_dump(mode="json")), flatten(wanted.model_dump(mode="json"))
    for key in before.keys() | now.keys():
        if before.get(key) != now.get(key) and key not in ("vssl", "data.location", "init.location"):
            raise UsageError(
                f"{run.path}: holds a run with {key} = {before.get(key)}, this command has {now.get(key)}; "
                "name a new folder, or use the settings of the run"
            )


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def visible(folder: Path) -> list[Path]:
    """Entries of a folder but those that start with a dot, such as files that were half written when we were killed."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]

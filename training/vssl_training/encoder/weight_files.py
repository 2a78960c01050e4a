"""Files of weights: what they hold, without running anything of it."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vssl.errors import UsageError

INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "teacher", "net", "network")
"""Keys of a checkpoint under which programs keep the weights, those of an average first."""

LFS = b"version https://git-lfs"


def file_sha256(*files: Path) -> str:
    """SHA-256 of files one after another, read piece by piece."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while piece := opened.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a `.safetensors` or of a file of `torch.save`, in their order, and the metadata of the former.

    Of a checkpoint with more in it than weights, those are found (see `INSIDE`).

    Raises:
        UsageError: it holds code, or no weights, or is something else.
    """
    check_kind(file)
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    return inner_weights(read_pickle(file), file), {}


def check_kind(file: Path) -> None:
    """Refuse by its first bytes what is often taken for weights.

    Raises:
        UsageError: no file, an empty one, a pointer of Git LFS, or a page of HTML.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(256).lstrip()
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}") from error
    if not head:
        raise UsageError(f"{file}: the file is empty")
    if head.startswith(LFS):
        raise UsageError(f"{file}: a pointer of Git LFS, not the weights; fetch them with `git lfs pull`")
    if head[:1] == b"<":
        raise UsageError(
            f"{file}: a page of HTML or XML, not weights (a download that asked for a login?); download the file again"
        )


def read_pickle(file: Path) -> Any:  # noqa: ANN401 — whatever was saved
    """What `torch.save` wrote, of plain containers, numbers and tensors alone.

    Raises:
        UsageError: it holds code, or it is damaged or none of torch's.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in many ways on what is not its own
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"{file}: neither .safetensors nor weights of torch.save, or damaged: {first}") from error
        raise UsageError(
            f"{file}: holds code ({code[1]}), not weights alone; none of it was run. Take the .safetensors of the same "
            "weights, or save `model.state_dict()` where you trust the file"
        ) from error


def inner_weights(saved: object, file: Path) -> dict[str, Tensor]:
    """The weights in what a file holds.

    Raises:
        UsageError: there are none.
    """
    while isinstance(saved, Mapping):
        tensors = {str(key): value for key, value in saved.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        saved = next((saved[key] for key in INSIDE if isinstance(saved.get(key), Mapping)), None)
    raise UsageError(f"{file}: holds no weights: save `model.state_dict()`, or a mapping with it under `state_dict`")


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise UsageError(f"{file}: no safetensors file, or damaged: {error}") from error

"""A finished run → a bundle: convert, compare with torch on the run's own images, and only then write the manifest."""

import subprocess
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch

from vssl.bundle import Manifest, open_bundle, replaceable, write_bundle
from vssl.engine import Embeddings, Engine
from vssl_export.measurement import compare, preprocessing_sha256
from vssl_export.onnx_file import to_onnx
from vssl_training.run import Run, RunRecord, preprocessing_of

MODEL = "model.onnx"


def export_run(path: Path, location: Path, name: str, release: str) -> Manifest:
    """Export a finished run to a bundle at `location` (a folder, or a file ending in `.zip`).

    Raises:
        UsageError: there is no finished run at `path`, or something other than a bundle is at `location`.
        VsslError: ONNX Runtime's answers differ from torch's by more than the limit.
    """
    replaceable(location)
    run = Run(path)
    record = run.record()
    embedder = run.load_embedder()
    sample = run.sample()
    data = to_onnx(embedder, record.recipe.image.size)
    with torch.no_grad():
        expected = Embeddings(*(values.numpy() for values in embedder(torch.from_numpy(sample))))
    fields = manifest_fields(record, name, release, last_figures(run))
    # The engine opens bundles only, so the comparison runs on a draft of the bundle, through the user's own path.
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft"
        unknown = {"images": len(sample), "embedding": 0, "log_variance": 0, "uncertainty": 0, "limit": 1}
        write_bundle(draft, {**fields, "models": models(data, unknown)}, {MODEL: data})
        parity = compare(Engine(open_bundle(draft))(sample), expected)
    return write_bundle(location, {**fields, "models": models(data, parity.model_dump())}, {MODEL: data})


def models(data: bytes, parity: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's `models`: one file, in float32."""
    model = onnx.load_from_string(data)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    return {"fp32": {"path": MODEL, "parity": parity, "opset": opset, "ir_version": model.ir_version}}


def manifest_fields(record: RunRecord, name: str, release: str, figures: dict[str, float]) -> dict[str, Any]:
    """Everything in the manifest that does not depend on the converted model."""
    recipe = record.recipe
    return {
        "name": name,
        "version": release,
        "preprocessing": preprocessing_of(recipe),
        "preprocessing_sha256": preprocessing_sha256(preprocessing_of(recipe)),
        "outputs": {"dimension": recipe.network.dimension},
        "evaluation": figures,
        "provenance": {
            "recipe": recipe.model_dump(mode="json"),
            "data": {"images": record.data.images, "sha256": record.data.sha256},
            "seed": record.seed,
            "versions": {package: version(package) for package in ("vssl", "torch", "onnx", "onnxruntime")},
            "git_commit": git_commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


def last_figures(run: Run) -> dict[str, float]:
    """The last figures of the encoder phase: kNN among training images, rank and spread."""
    for line in reversed(run.metrics()):
        if "rank" in line:
            return {f"train_{key}": line[key] for key in ("knn", "rank", "std") if key in line}
    return {}


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from, if it runs from one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None

"""A run → a bundle: convert, compare with torch on the run's own images, and only then write the manifest."""

import subprocess
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from torch import nn

from vssl.arrays import Int64s, Pixels
from vssl.bundle.manifest import Manifest, Parity, Plan, Precision
from vssl.bundle.reading import open_bundle
from vssl.bundle.writing import replaceable, write_bundle
from vssl.engine import Engine
from vssl.errors import UsageError, VsslError
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import load_images, warn_of_missing
from vssl.sources.opening import open_source
from vssl_export.checking.cards import REFERENCE, cards, pack, preprocessing_sha256
from vssl_export.checking.description import CARD
from vssl_export.checking.limits import LIMITS, compare, difference, over_limit
from vssl_export.checking.speed import speeds
from vssl_export.model import tensorrt
from vssl_export.model.conversion import convert, fits_one_file
from vssl_export.model.onnx_file import to_onnx
from vssl_export.source import Trained, load
from vssl_training.encoder.embedder import embeddings_of
from vssl_training.run.folder import Run
from vssl_training.run.record import preprocessing_of

JUDGED_IMAGES = 5_000


@dataclass(frozen=True)
class ExportOptions:
    """What `export_run` takes besides.

    Attributes:
        precisions: further ones beside fp32; each is held to its limits.
        data: images (a folder, a .zip, `archive.zip::folder`) to calibrate and judge them on, instead of the run's
            sample; where they lie in class folders, kNN and R@1 are judged too.
        plans: build TensorRT plans of fp32 and fp16 too, for the GPU here.
        features: give the backbone's features as a fourth output.
        half_weights: store fp32's weights as float16; it still computes in float32, and is held to fp16's limits.
        module: the network that the run was attached to, if that is a module of your own program.
        card: a text about the model for its users, kept in the bundle.
    """

    precisions: Collection[Precision] = ()
    data: str | None = None
    plans: bool = False
    features: bool = False
    half_weights: bool = False
    card: Path | None = None
    module: nn.Module | None = None


def export_run(
    path: Path,
    location: Path,
    name: str,
    release: str,
    options: ExportOptions = ExportOptions(),
) -> Manifest:
    """Export a run to a bundle at `location` (a folder, or a file ending in `.zip`).

    Args:
        path: a finished run, or the checkpoint of one that need not be.
        location: of the bundle.
        name: of the model.
        release: version of the model.
        options: precisions, images to judge by, plans; see `ExportOptions`.

    Raises:
        UsageError: there is no finished run and no checkpoint at `path`, or something other than a bundle is at
            `location`; plans need a GPU and TensorRT, and one is missing; the card can't be read; the weights are too
            many for one ONNX file.
        VsslError: a precision differs from torch or from fp32 by more than its limit; TensorRT can't build a plan.
    """
    replaceable(location)
    card = {} if options.card is None else {CARD: read_card(options.card)}
    gpu = tensorrt.this_gpu() if options.plans else None
    trained = load(path, options.module)
    fits_one_file(trained.embedder)
    how = preprocessing_of(trained.record.recipe)
    images, labels = (trained.run.sample(), None) if options.data is None else judged_images(options.data, how)
    fp32 = to_onnx(trained.embedder, how.size)
    contents = convert(fp32, options.precisions, images, options.features, options.half_weights)
    reference = embeddings_of(trained.embedder, cards(how))
    calibration, references = trained.run.calibration() if trained.checkpoint is None else (None, {})
    fields = manifest_fields(trained, name, release, options.features) | {"calibration": calibration}
    files = {model_path(precision): content for precision, content in contents.items()}
    files |= {REFERENCE: pack(reference), **references}
    fields["models"] = measured_models(trained, contents, fields, files, images, labels, options.half_weights)
    fields["engines"], plans = add_plans(location, contents, how.size, *gpu) if gpu else ([], {})
    return write_bundle(location, fields, {**files, **plans, **card})


def measured_models(
    trained: Trained,
    contents: dict[Precision, bytes],
    fields: dict[str, Any],
    files: dict[str, bytes],
    images: Pixels,
    labels: Int64s | None,
    half_weights: bool = False,
) -> dict[Precision, dict[str, Any]]:
    """The manifest's `models`: each precision compared with torch and with fp32, and timed.

    The engine opens bundles only, so all is measured on a draft of the bundle, through the user's own path.

    Raises:
        VsslError: a difference is over its limit.
    """
    limit = LIMITS["fp16"].largest if half_weights else LIMITS["fp32"].largest
    sample, test_cards = trained.run.sample(), cards(preprocessing_of(trained.record.recipe))
    expected = embeddings_of(trained.embedder, sample)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft"
        unknown = Parity(images=len(sample), embedding=0, log_variance=0, uncertainty=0, limit=1)
        models = {precision: model_file(precision, content, unknown) for precision, content in contents.items()}
        write_bundle(draft, {**fields, "models": models}, files)
        engines = {precision: Engine(open_bundle(draft), precision=precision) for precision in contents}
        answers = {precision: engine(sample) for precision, engine in engines.items()}
        models = {
            precision: model_file(
                precision,
                contents[precision],
                compare(answer, expected, precision, limit if precision == "fp32" else None),
            )
            for precision, answer in answers.items()
        }
        models["fp32"]["difference"] = difference(answers["fp32"], expected).model_dump()
        compare(engines["fp32"](test_cards), embeddings_of(trained.embedder, test_cards), "fp32", limit)
        measure(models, engines, images, labels)
    return models


def read_card(path: Path) -> bytes:
    """The bytes of a text file.

    Raises:
        UsageError: it can't be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8").encode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--card {path}: can't be read as text: {error}") from error


def add_plans(
    location: Path, contents: dict[Precision, bytes], size: int, trt: ModuleType, capability: tuple[int, int]
) -> tuple[list[Plan], dict[str, bytes]]:
    """TensorRT plans of the floating-point precisions, and their files; timings come from the bundle that was there."""
    plans: list[Plan] = []
    files: dict[str, bytes] = {}
    for precision, content in contents.items():
        if precision == "int8":  # quantised for CPUs, with activations that TensorRT does not take
            continue
        plan = tensorrt.describe(trt, precision, capability)
        timings = plan.path.removesuffix(".plan") + ".timing"
        before = location / timings
        built = tensorrt.build(trt, content, size, before.read_bytes() if before.is_file() else b"")
        plans.append(plan)
        files |= {plan.path: built.plan, timings: built.timings}
    return plans, files


def judged_images(data: str, preprocessing: Preprocessing) -> tuple[Pixels, Int64s | None]:
    """Some thousand images of `data`, spread over all of it, and their labels if they have any."""
    source = open_source(data)
    paths = list(source.paths())
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(JUDGED_IMAGES, len(paths))).astype(int)]
    images = load_images(source, preprocessing, chosen)
    warn_of_missing(source, images)
    return images.pixels, images.labels


def model_path(precision: Precision) -> str:
    """Where a precision's model is in the bundle."""
    return "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"


def model_file(precision: Precision, content: bytes, parity: Parity) -> dict[str, Any]:
    """An entry of the manifest's `models`."""
    model = onnx.load_from_string(content)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    return {
        "path": model_path(precision),
        "parity": parity.model_dump(),
        "opset": opset,
        "ir_version": model.ir_version,
    }


def measure(
    models: dict[Precision, dict[str, Any]], engines: dict[Precision, Engine], images: Pixels, labels: Int64s | None
) -> None:
    """Add to each entry its speed, and to the lower precisions' their difference from fp32.

    Raises:
        VsslError: a difference is over its limit.
    """
    if len(engines) > 1:
        fp32 = engines["fp32"](images)
        for precision, engine in engines.items():
            if precision == "fp32":
                continue
            found = difference(engine(images), fp32, labels)
            wrong = over_limit(precision, found)
            if wrong is not None:
                raise VsslError(f"{wrong}: not exported")
            models[precision]["difference"] = found.model_dump()
    for precision, speed in speeds(engines, images).items():
        models[precision]["images_per_second"] = speed


def manifest_fields(trained: Trained, name: str, release: str, features: bool) -> dict[str, Any]:
    """Everything in the manifest that does not depend on the converted model."""
    record, recipe = trained.record, trained.record.recipe
    length = trained.embedder.backbone.features if features else None
    image, backbone = recipe.image.settled(), record.backbone
    return {
        "name": name,
        "version": release,
        "preprocessing": preprocessing_of(recipe),
        "preprocessing_sha256": preprocessing_sha256(preprocessing_of(recipe)),
        "normalisation": {"mean": image.mean, "std": image.std},
        "backbone": None if backbone is None else backbone.model_dump(),
        "outputs": {
            "dimension": trained.embedder.dimension,
            "features": length,
            "embedding_of": recipe.network.embedding.of,
        },
        "evaluation": last_figures(trained.run),
        "provenance": {
            "recipe": recipe.model_dump(mode="json"),
            "data": {"images": record.data.images, "sha256": record.data.sha256},
            "seed": record.seed,
            "versions": {package: version(package) for package in ("vssl", "torch", "onnx", "onnxruntime")},
            "git_commit": git_commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "checkpoint": trained.checkpoint,
        },
    }


def last_figures(run: Run) -> dict[str, float]:
    """The last figures of the encoder phase: kNN among training images, rank and spread; of an attached head the rank
    correlation of u with the squared error, on images held back.
    """
    for line in reversed(run.metrics()):
        if "rank" in line:
            return {f"train_{key}": line[key] for key in ("knn", "rank", "std") if key in line}
        if "held_back_rho" in line:
            return {"held_back_rho": line["held_back_rho"]}
    return {}


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from, if it runs from one.

    Installed into a virtual environment, it may lie in a repository of the user's, which does not track it.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None

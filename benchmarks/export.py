"""Speed of a model in torch, eager and compiled, and in ONNX Runtime in each precision; and what the precisions cost.

Of the encoder of a run, judged on labelled images; or, without `--run`, of timm's ResNet-50 at 224 px with random
weights and our heads, for speed alone. All variants of a model take turns in one process, several rounds, with the same
number of threads; speeds are medians and leave decoding out. torch's threads spin while they wait, as it comes; those
of our engine do not, so that decoding gets the core, and one row shows the same file where they do.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.report import Row, parser, report
from vssl.arrays import Pixels
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import open_bundle
from vssl.bundle.writing import write_bundle
from vssl.engine import OUTPUTS, Engine
from vssl_export.bundle_writer import judged_images, model_path
from vssl_export.checking.limits import difference
from vssl_export.model.conversion import convert
from vssl_export.model.onnx_file import to_onnx
from vssl_training.encoder.embedder import Embedder, build_embedder
from vssl_training.encoder.weights import load_embedder
from vssl_training.recipe.reading import load_recipe, override
from vssl_training.run.folder import Run
from vssl_training.run.record import preprocessing_of

COMPILED = (1, 32)
"""Batch sizes at which torch is timed too: it compiles anew for each."""
LOWER: tuple[Precision, ...] = ("fp16", "int8")


RESNET = ["network.backbone=resnet50", "network.embedding={of: mean}", "network.dimension=128", "image.size=224"]
PAUSE = 0.05
"""Seconds before each measurement: threads of the one before may still spin at their barrier."""


def engines_of(contents: dict[Precision, bytes], size: int, dimension: int, folder: Path) -> dict[Precision, Engine]:
    """The files in engines, by way of a bundle."""
    parity = {"images": 1, "embedding": 0.0, "log_variance": 0.0, "uncertainty": 0.0, "limit": 1.0}
    fields = {
        "name": "benchmark",
        "version": "1",
        "preprocessing": {"size": size},
        "outputs": {"dimension": dimension},
        "models": {precision: {"path": model_path(precision), "parity": parity} for precision in contents},
        "evaluation": {},
        "provenance": {"recipe": {}, "data": {}, "seed": 0, "versions": {}, "created": ""},
    }
    write_bundle(folder, fields, {model_path(precision): content for precision, content in contents.items()})
    threads = torch.get_num_threads()
    return {precision: Engine(open_bundle(folder), threads, precision) for precision in contents}


def spinning(content: bytes, threads: int) -> Callable[[Pixels], object]:
    """A bare session of which the threads spin while they wait, as ONNX Runtime has it by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(OUTPUTS, {"image": batch})


def speeds(
    variants: dict[str, Callable[[Pixels], object]], batch: Pixels, rounds: int, limit: float
) -> dict[str, float]:
    """Images/s of each variant: the median of some rounds, in each of which it runs for `limit` seconds."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for work in variants.values():
        work(batch)
    for _ in range(rounds):
        for name, work in variants.items():
            time.sleep(PAUSE)
            work(batch)
            calls, begun = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - begun) < limit:
                work(batch)
                calls += 1
            found[name].append(calls * len(batch) / elapsed)
    return {name: statistics.median(values) for name, values in found.items()}


@torch.no_grad()
def table(model: Embedder, images: Pixels, batches: list[int], rounds: int) -> list[Row]:
    """A row for each variant of one model; the images calibrate int8 and are embedded in every precision."""
    size = images.shape[1]
    dimension = model.eval()(torch.zeros(1, size, size, 3, dtype=torch.uint8))[0].shape[1]
    contents = convert(to_onnx(model, size), LOWER, images)
    compiled = torch.compile(model, dynamic=False)
    with tempfile.TemporaryDirectory() as folder:
        engines = engines_of(contents, size, dimension, Path(folder, "bundle"))
        variants: dict[str, Callable[[Pixels], object]] = {
            "torch eager": lambda batch: model(torch.from_numpy(batch)),
            "torch compiled": lambda batch: compiled(torch.from_numpy(batch)),
        }
        variants |= {f"ONNX Runtime {precision}": engine for precision, engine in engines.items()}
        variants["ONNX Runtime fp32, spinning"] = spinning(contents["fp32"], torch.get_num_threads())
        rows: dict[str, Row] = {variant: {"variant": variant} for variant in variants}
        for count in batches:
            timed = {name: work for name, work in variants.items() if count in COMPILED or "torch" not in name}
            batch = np.resize(images, (count, *images.shape[1:]))
            for variant, speed in speeds(timed, batch, rounds, 0.3).items():
                rows[variant][f"images_per_second_{count}"] = round(speed, 1)
        for precision, content in contents.items():
            rows[f"ONNX Runtime {precision}"]["mib"] = len(content) / 2**20
    return list(rows.values())


def costs(run: Path, data: str, rows: list[Row]) -> None:
    """Add to the rows of the run's encoder what each precision costs on labelled images."""
    record = Run(run).record()
    images, labels = judged_images(data, preprocessing_of(record.recipe))
    embedder = load_embedder(Run(run))
    contents = convert(to_onnx(embedder, images.shape[1]), LOWER, Run(run).sample())
    with tempfile.TemporaryDirectory() as folder:
        engines = engines_of(contents, images.shape[1], embedder.dimension, Path(folder, "bundle"))
        fp32 = engines["fp32"](images)
        for precision in LOWER:
            off = difference(engines[precision](images), fp32, labels)
            row = next(row for row in rows if row["variant"] == f"ONNX Runtime {precision}")
            row |= {"embedding_max": off.embedding.max, "embedding_mean": off.embedding.mean}
            row |= {"variance_max": off.variance.max, "variance_mean": off.variance.mean}
            row |= {"cosine_mean": round(off.cosine_mean, 6), "knn": off.knn, "recall_at_1": off.recall_at_1}


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--run", type=Path, help="a finished run; without it, ResNet-50")
    flags.add_argument("--data", help="labelled images that the run was not trained on")
    flags.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch and of ONNX Runtime")
    arguments = flags.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds = 2 if arguments.quick else 5
    if arguments.run:
        run = Run(arguments.run)
        rows = table(load_embedder(run), run.sample(), [1, 8, 32, 128], rounds)
        if arguments.data:
            costs(arguments.run, arguments.data, rows)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
        resnet = build_embedder(override(load_recipe("quick"), RESNET))
        rounds = min(rounds, 3)
        rows = table(resnet, noise, [1] if arguments.quick else [1, 32], rounds)
    settings = {"model": "encoder of a run" if arguments.run else "ResNet-50, 224 px", "rounds": rounds}
    report("Export: torch and ONNX Runtime", rows, settings | {"threads": torch.get_num_threads()}, arguments.json)


if __name__ == "__main__":
    main()

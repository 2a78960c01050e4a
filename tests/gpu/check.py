"""What must hold on a GPU, in under five minutes: `python -m tests.gpu.check [--data IMAGES]`, or `make test-gpu`.

Every recipe takes a step of both phases with the switches that a run takes there, and is timed; two steps in double
precision equal the CPU's; a run of some steps is exported, and ONNX Runtime on the CPU says what torch says on the GPU;
a stream brings what lies in memory. Last, recipes are compiled, one after the other as long as time is left. Exit
status 0: all hold; 1: some do not; 2: there is no GPU.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.report import DEMO_DATA
from tests.gpu.parity import largest_difference
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_export.bundle_writer import export_run
from vssl_export.checking.limits import compare
from vssl_training.data.order import Order
from vssl_training.data.placing import HostImages
from vssl_training.data.stream import Stream, batch_of
from vssl_training.encoder.embedder import build_encoder, embeddings_of
from vssl_training.encoder.weights import load_embedder
from vssl_training.loop.room import room_on
from vssl_training.loop.training import train
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import load_recipe, override, recipe_names
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.numerics import Numerics, prepare
from vssl_training.run.record import Budget, preprocessing_of

SECONDS = 270.0
"""After so many no further recipe is compiled: what was begun then still ends within five minutes."""

COMPILATION = 45.0
"""Seconds that are kept for one recipe's compilation."""

STEPS = 8
"""Timed steps of each recipe."""

RUN_STEPS = 40
"""Of the run that is exported."""

Check = Callable[[], str]


def recipes(changes: Sequence[str] = ()) -> dict[str, Recipe]:
    """Those that train, with images in memory; networks that others have trained start at random."""
    found = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.attach is None:
            found[name] = override(recipe, ["image.stored=null", *changes])
    return found


def one_step(recipe: Recipe, numerics: Numerics, device: torch.device, steps: int = STEPS) -> str:
    """A step of each phase, then some that are timed; the words for its line.

    Raises:
        AssertionError: a loss is no number.
    """
    size = recipe.image.settled().size
    pixels = torch.randint(0, 256, (2 * recipe.optimiser.batch, size, size, 3), dtype=torch.uint8).to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    encoder = None if recipe.adapt is None else build_encoder(recipe)
    first = EncoderTraining(recipe, pixels, 0, 1000, numerics, encoder).prepare()
    step_seconds = []
    for step in range(1 + steps):
        begun = time.perf_counter()
        loss = first.step(step + 600)["loss"].item()  # read, so that the GPU has finished; early views are over
        assert torch.isfinite(torch.tensor(loss)), f"the encoder's loss is {loss}"
        step_seconds.append(time.perf_counter() - begun)
    words = f"{first.batch / statistics.median(step_seconds[1:] or step_seconds):,.0f} images/s"
    if recipe.variance.share and not recipe.variance.joint:
        second = VarianceTraining(recipe, first.trained, pixels, 0, 1000, numerics).prepare()
        loss = second.step(0)["loss"].item()
        assert torch.isfinite(torch.tensor(loss)), f"the variance head's loss is {loss}"
    if device.type == "cuda":
        words += f", {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB at most"
    return f"{words}, first step {step_seconds[0]:.1f} s"


def same_as_the_cpu(recipe: Recipe, device: torch.device) -> str:
    """Two steps of both phases on the same views, in double precision.

    Raises:
        AssertionError: they differ by more than the rounding of the loss, which is in single precision.
    """
    found = largest_difference(recipe, device)
    worst = max(found.values())
    assert worst < 1e-4, f"differences from the CPU: {found}"
    return f"two steps differ from the CPU's by {worst:.1e} of their size at most"


def same_as_onnx(recipe: Recipe, data: str, device: torch.device, steps: int = RUN_STEPS) -> str:
    """A run, its export, and the same images through both.

    Raises:
        VsslError: they differ by more than an export may.
    """
    with tempfile.TemporaryDirectory() as folder:
        run, bundle = Path(folder, "run"), Path(folder, "bundle")
        train(recipe, data, run, Budget(steps=steps))
        export_run(run, bundle, "checked", "1")
        images = Run(run).sample()
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        there = embeddings_of(load_embedder(Run(run)).to(device), images)
        parity = compare(Engine(open_bundle(bundle))(images), there)
    return f"ONNX Runtime's embeddings differ from torch's there by {parity.embedding:.1e} at most"


def same_as_in_memory(recipe: Recipe, data: str, device: torch.device) -> str:
    """Batches that worker processes decode, or that the host keeps, beside those that lie in memory.

    Raises:
        AssertionError: they differ.
    """
    source, preprocessing = open_source(data), preprocessing_of(recipe)
    paths = list(source.paths())[: 4 * recipe.optimiser.batch]
    kept = torch.from_numpy(load_images(source, preprocessing, paths).pixels)
    stream = Stream(source, paths, preprocessing, device, 0.0, lambda line: None)
    order = Order(0, 0, len(paths), recipe.optimiser.batch)
    for name, images in (("stream", stream), ("host's memory", HostImages(kept, device))):
        for step in range(3):
            brought = batch_of(images, order, step)
            assert brought.device.type == device.type, f"a batch of the {name} is on {brought.device}"
            assert torch.equal(brought.cpu(), kept[order(step)]), f"batch {step} of the {name} is another"
    return "three batches of a stream, and of the host's memory, are those that lie in memory"


def room_for_images(recipe: Recipe, device: torch.device) -> str:
    """What a measured step leaves free.

    Raises:
        AssertionError: it is nothing, or more than there is.
    """
    room, free = room_on(recipe, device).device, torch.cuda.mem_get_info(device)[0]
    assert room is not None
    assert 0 < room < free, f"images may fill {room:,.0f} of {free:,} bytes"
    return f"images may fill {room / 2**30:.1f} of {free / 2**30:.1f} GiB"


def checks(data: str, device: torch.device, begun: float) -> Iterator[tuple[str, Check]]:
    """Name and work of each, the quickest first."""
    quick, numerics = load_recipe("quick"), Numerics.of(device)
    yield "parity", lambda: same_as_the_cpu(quick, device)
    yield "memory", lambda: room_for_images(quick, device)
    yield "stream", lambda: same_as_in_memory(quick, data, device)
    for name, recipe in recipes().items():
        yield name, lambda recipe=recipe: one_step(recipe, numerics, device)  # type: ignore[misc]
    yield "export", lambda: same_as_onnx(quick, data, device)
    compiled = numerics.model_copy(update={"compile": True})
    for name, recipe in recipes().items():
        if time.monotonic() - begun + COMPILATION < SECONDS:
            yield f"{name}, compiled", lambda recipe=recipe: one_step(recipe, compiled, device)  # type: ignore[misc]
        else:
            print(f"{name}, compiled: left out, since time is up")  # noqa: T201


def carried_out(name: str, check: Check) -> bool:
    """Print a check's line; whether it holds."""
    begun = time.monotonic()
    try:
        words, holds = check(), True
    except Exception as error:  # a kernel, a compiler, an allocation: each fails in a way of its own
        words, holds = f"FAILS: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", False
    print(f"{name}: {words} ({time.monotonic() - begun:.0f} s)", flush=True)  # noqa: T201
    return holds


def main() -> int:
    """Print a line for each check."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="images: folder, .zip, or archive.zip::folder")
    data = flags.parse_args().data
    if not torch.cuda.is_available():
        print("no GPU here: torch finds no CUDA device, and nothing was checked", file=sys.stderr)  # noqa: T201
        return 2
    begun, device = time.monotonic(), torch.device("cuda", 0)
    about = torch.cuda.get_device_properties(device)
    print(f"{about.name}, {about.total_memory / 2**30:.0f} GiB; torch {torch.__version__}")  # noqa: T201
    prepare(device)
    failed = [name for name, check in checks(data, device, begun) if not carried_out(name, check)]
    verdict = f"fails: {'; '.join(failed)}" if failed else "all hold"
    print(f"{verdict}; {time.monotonic() - begun:.0f} s")  # noqa: T201
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

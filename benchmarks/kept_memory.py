"""What it brings on a CPU to keep memory that is freed, and to send few images through a frozen network at once.

A network of timm with random weights, on one thread: a pass without gradients in batches as for a GPU and in those of
`at_once`, and a training step. Each in a process of its own, without and with `keep_freed_memory`, in turn; the least
times are shown, and how much of the work was the system's: the fetching of pages.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.report import parser, report
from vssl.batch_sizes import batch_images
from vssl.memory import keep_freed_memory
from vssl_training.encoder.embedder import at_once

IMAGES = 64
WAYS = ("pass, one batch", "pass, few at once", "training step")


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--backbone", default="tf_efficientnet_lite0")
    flags.add_argument("--size", type=int, default=160)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--alone", nargs=2, help="way and whether memory is kept: what a process of its own does")
    arguments = flags.parse_args()
    if arguments.alone:
        print(json.dumps(measured(arguments.backbone, arguments.size, *arguments.alone)))
        return
    cases = [(way, kept) for way in WAYS for kept in ("no", "yes")]
    told: dict[tuple[str, str], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(1 if arguments.quick else arguments.rounds):
        for case in cases:
            line = [sys.executable, "-m", "benchmarks.kept_memory", "--backbone", arguments.backbone]
            line += ["--size", str(arguments.size), "--alone", *case]
            told[case].append(json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout))
    rows = [
        {"what": way, "memory kept": kept} | min(found, key=lambda one: one["ms an image"])
        for (way, kept), found in told.items()
    ]
    report(
        "Memory kept on a CPU",
        rows,
        {"backbone": arguments.backbone, "size": arguments.size, "images": IMAGES},
        arguments.json,
    )


def measured(backbone: str, size: int, way: str, kept: str) -> dict[str, float]:
    """Milliseconds an image of the third repetition, those of the system's work, and the peak of memory."""
    import timm

    if kept == "yes":
        keep_freed_memory()
    torch.set_num_threads(1)
    net: Any = timm.create_model(backbone)
    images = torch.rand(IMAGES, 3, size, size)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-5)

    def step() -> None:
        net.train().forward_features(images).mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    @torch.no_grad()
    def look() -> None:
        few = at_once(size, images.device) if way == "pass, few at once" else batch_images(size)
        for part in torch.split(images, few):
            net.eval().forward_features(part)

    work: Callable[[], None] = step if way == "training step" else look
    work()
    work()
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "ms an image": 1000 * (time.perf_counter() - begun) / IMAGES,
        "system ms": 1000 * (spent.ru_stime - before.ru_stime) / IMAGES,
        "ram_mb": spent.ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()

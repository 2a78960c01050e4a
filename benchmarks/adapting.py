"""What training on from pretrained weights brings, beside `vssl attach`, on photographs of clothes.

`python -m benchmarks.adapting --weights FILE --data CLOTHES --work FOLDER --json FILE`. CLOTHES has `train` and `test`
class folders by other senders. Each way is one command on `train`, without its labels, on one thread, with so many
steps of 128 images, a fifth of them for the variance head. What is exported is asked for `test` with `train` as the
bank, and for degraded copies of some of it. `--work` keeps the runs: what is there is not done again. `student` is the
small network of `--recipe distil`, from scratch with the pretrained one as its prior; beside it stands the same network
without one. The embedding is made of the features, but for `mean`, where it is VSSL's mean head on them.
"""

import json
import os
import resource
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from benchmarks.default_model import clothes, images_of, trusted
from benchmarks.report import Row, parser, report
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.memory import cores

DEGRADED = 96
"""Images of which degraded copies are made, one of each kind."""


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--backbone", default="tf_efficientnet_lite0")
    flags.add_argument("--weights", required=True, help="the backbone's")
    flags.add_argument("--data", required=True, help="clothes, in `train` and `test`")
    flags.add_argument("--size", type=int, default=160, help="of the pretrained backbone's pictures")
    flags.add_argument("--steps", type=int, default=120, help="of each training")
    flags.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    flags.add_argument("--work", type=Path, required=True, help="folder of the runs")
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.steps = 5
    rows = [row_of(way, arguments) for way in arguments.only]
    about = {"backbone": arguments.backbone, "size": arguments.size, "steps": arguments.steps}
    report("Training on from pretrained weights", rows, about, arguments.json)


def attach(arguments: Namespace) -> list[str]:
    """The heads alone, on cached features, in minutes."""
    size = ["--set", f"image.size={arguments.size}"]
    return ["attach", "--backbone", arguments.backbone, "--weights", arguments.weights, *size]


def adapt(arguments: Namespace, train: str) -> list[str]:
    """`--recipe adapt` with the part of the backbone that learns."""
    wanted = {"network.backbone": arguments.backbone, "image.size": arguments.size, "adapt.train": train}
    return trained(arguments, "adapt", "--init", arguments.weights, wanted=wanted)


def student(arguments: Namespace) -> list[str]:
    """`--recipe distil`."""
    wanted = {"distil.backbone": arguments.backbone, "distil.weights": arguments.weights}
    return trained(arguments, "distil", wanted=wanted)


def scratch(arguments: Namespace) -> list[str]:
    """The student's network by the recipe for any folder of images."""
    wanted = {"network.backbone": "resnet18", "network.cifar_stem": "false", "image.size": 96}
    return trained(arguments, "folder", wanted=wanted)


def trained(arguments: Namespace, recipe: str, *more: str, wanted: dict[str, object]) -> list[str]:
    """A training with some values of a recipe."""
    changes = [word for key, value in wanted.items() for word in ("--set", f"{key}={value}")]
    return ["train", "--recipe", recipe, "--steps", str(arguments.steps), *more, *changes]


WAYS = {
    "attach": attach,
    "adapt, heads": lambda arguments: adapt(arguments, "heads"),
    "adapt, heads, mean": lambda arguments: [*adapt(arguments, "heads"), "--set", "network.embedding.of=mean"],
    "adapt, last:2": lambda arguments: adapt(arguments, "last:2"),
    "adapt, lora:4": lambda arguments: adapt(arguments, "lora:4"),
    "adapt, all": lambda arguments: [*adapt(arguments, "all"), "--set", "optimiser.accumulate=4"],  # for the memory
    "student": student,
    "from scratch": scratch,
}


def row_of(way: str, arguments: Namespace) -> Row:
    """Train one way, unless that was done, and judge it."""
    run = arguments.work / way.replace(", ", "-").replace(" ", "-").replace(":", "-")
    told = run.with_suffix(".json")
    if not told.exists():
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        vssl(*WAYS[way](arguments), "--data", f"{arguments.data}::train", "--out", str(run))
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - spent
        told.write_text(json.dumps({"core_minutes": spent / 60, **judged(run, arguments.data)}))
    row: Row = {"way": way, **json.loads(told.read_text())}
    return row


def judged(run: Path, data: str) -> Row:
    """Neighbours among clothes of other senders, and what u says of degraded copies of some."""
    out = run.with_suffix(".vssl")
    vssl("export", str(run), "--out", str(out))
    bundle = open_bundle(out)
    engine = Engine(bundle)
    test, train = (images_of(bundle, f"{data}::{part}") for part in ("test", "train"))
    return clothes(engine, test, train) | trusted(bundle, engine, test.pixels, DEGRADED)


def vssl(*words: str) -> str:
    """Run a command with one thread, and give what it writes."""
    alone = {"OMP_NUM_THREADS": "1"} if cores() > 1 else {}
    line = [sys.executable, "-m", "vssl.cli", *words]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | alone).stdout


if __name__ == "__main__":
    main()

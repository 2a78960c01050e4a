"""kNN accuracy on test images against minutes of training, by the user's commands alone.

Each row is one whole run: `vssl train --max-minutes`, `vssl export`, `vssl evaluate` of the bundle. Labels only judge:
the training images are the bank, the test images the queries. Beside them stands the same network as
initialised, its embedding whitened by the training images where the recipe's is. Rows that the JSON file already holds
for the same recipe and data are not run again.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.report import DEMO_DATA, Row, earlier_rows, fingerprint, parser, report
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_training.encoder.embedder import Embedder, build_encoder
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.reading import load_recipe
from vssl_training.recipe.sections import Recipe
from vssl_training.run.folder import Run
from vssl_training.run.record import preprocessing_of

VSSL = str(Path(sys.executable).parent / "vssl")
SHOWN = ("knn", "knn_pixels", "effective_rank", "sphere_std")


def vssl(*arguments: str) -> str:
    """Run one command and return what it prints."""
    return subprocess.run([VSSL, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def train(recipe: str, data: str, minutes: float, seed: int, run: Path) -> Row:
    """One run, its wall time and its steps."""
    begun = time.monotonic()
    arguments = ("--recipe", recipe, "--data", data, "--out", str(run), "--seed", str(seed))
    vssl("train", *arguments, "--max-minutes", str(minutes), "--autotune")
    record = Run(run).record()
    return {
        "minutes": (time.monotonic() - begun) / 60,
        "steps": record.schedule.encoder,
        "bf16": record.speed.bf16,
    }


def untrained(recipe: Recipe, data: str) -> Embedder:
    """The recipe's network as it is initialised."""
    torch.manual_seed(0)
    encoder = build_encoder(recipe)
    pixels = torch.from_numpy(load_images(open_source(data), preprocessing_of(recipe)).pixels)
    return VarianceTraining(recipe, encoder, pixels, 0, 1).prepare().embedder.eval()


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="an archive or folder with `train` and `test` class folders")
    flags.add_argument("--recipe", default="quick")
    flags.add_argument("--minutes", type=float, nargs="+", default=[20.0, 90.0])
    flags.add_argument("--seeds", type=int, default=1)
    arguments = flags.parse_args()
    inside = "::" if arguments.data.endswith(".zip") else "/"
    bank, queries = f"{arguments.data}{inside}train", f"{arguments.data}{inside}test"
    settings = {"data": Path(arguments.data).name}
    rows = earlier_rows(arguments.json, settings)

    def judged(row: Row, run: Path) -> None:
        bundle = run.with_suffix(".zip")
        vssl("export", str(run), "--out", str(bundle))
        figures = json.loads(vssl("evaluate", str(bundle), "--data", queries, "--bank", bank, "--json"))
        rows.append(row | {name: figures[name] for name in SHOWN})
        report("Accuracy against minutes of training", rows, settings, arguments.json)

    recipe = {"recipe": arguments.recipe, "recipe_sha256": fingerprint(load_recipe(arguments.recipe))}
    start = recipe | {"budget": 0, "seed": 0}
    for minutes in [1.0] if arguments.quick else arguments.minutes:
        for seed in range(arguments.seeds):
            key = recipe | {"budget": minutes, "seed": seed}
            if any(key.items() <= row.items() for row in rows):
                continue
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                judged(key | train(arguments.recipe, bank, minutes, seed, run), run)
                if not any(start.items() <= row.items() for row in rows):
                    Run(run).save_weights(untrained(Run(run).record().recipe, bank))
                    judged(start | {"minutes": 0.0, "steps": 0}, run)


if __name__ == "__main__":
    main()

"""What the recipe `quick` reaches in its five minutes: the exported bundle beside a random encoder and raw pixels.

`train`, `export` and `evaluate` are the user's commands. Labels only judge: the training images vote, the test images
are asked. The random encoder is the same network as initialised, exported through the same path.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.report import DEMO_DATA, parser, report
from vssl_training.embedder import build_embedder
from vssl_training.recipe import load_recipe
from vssl_training.run import Run

VSSL = str(Path(sys.executable).parent / "vssl")
SHOWN = ("knn", "knn_pixels", "effective_rank", "sphere_std", "auroc_blur", "auroc_crop")


def vssl(*arguments: str) -> str:
    """Run one command and return what it prints."""
    return subprocess.run([VSSL, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", default=DEMO_DATA, help="an archive or folder with `train` and `test` class folders")
    flags.add_argument("--minutes", type=float, default=5.0)
    flags.add_argument("--seeds", type=int, default=1)
    arguments = flags.parse_args()
    minutes = 1.0 if arguments.quick else arguments.minutes
    inside = "::" if arguments.data.endswith(".zip") else "/"
    train, test = f"{arguments.data}{inside}train", f"{arguments.data}{inside}test"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            run, bundle = Path(folder) / f"run{seed}", Path(folder) / f"bundle{seed}"
            begun = time.monotonic()
            vssl("train", "--data", train, "--out", str(run), "--max-minutes", str(minutes), "--seed", str(seed))
            spent = (time.monotonic() - begun) / 60
            vssl("export", str(run), "--out", str(bundle))
            figures = json.loads(vssl("evaluate", str(bundle), "--data", test, "--bank", train, "--json"))
            schedule = Run(run).record().schedule
            rows.append(
                {"encoder": f"quick, seed {seed}", "minutes": spent, "steps": schedule.encoder}
                | {name: figures[name] for name in SHOWN}
            )
        torch.manual_seed(0)
        Run(run).save_weights(build_embedder(load_recipe("quick")))
        figures = json.loads(vssl("evaluate", str(run), "--data", test, "--bank", train, "--json"))
        rows.append({"encoder": "random", "minutes": 0.0, "steps": 0} | {name: figures[name] for name in SHOWN[:4]})
    settings = {"data": Path(arguments.data).name, "budget_minutes": minutes}
    report("Recipe quick", rows, settings, arguments.json)


if __name__ == "__main__":
    main()

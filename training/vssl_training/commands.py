"""`vssl train`, `vssl attach`, `vssl recipes` and `vssl evaluate`."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vssl.cli import echo
from vssl.memory import keep_freed_memory


class Phase(StrEnum):
    """What `vssl train` trains."""

    BOTH = "both"
    VARIANCE = "variance"


def train(
    data: Annotated[str, typer.Option(help="Folder of images, .zip, .tar, archive.zip::folder, or tar shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run in it goes on.")],
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe (`vssl recipes`); quick, or with --from that of the run.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Wall time of the run; the recipe's by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of the run, instead of a time.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the encoder, instead of a time.")] = None,
    val: Annotated[str | None, typer.Option(help="Labelled images to judge by; never trained on.")] = None,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the files that may be damaged before the run stops.")
    ] = 0.1,
    log: Annotated[
        list[str] | None, typer.Option(help="Also send the figures to tensorboard, wandb or mlflow; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**20 - 1, help="Seed of every random choice.")] = 0,
    init: Annotated[
        Path | None,
        typer.Option(help="Start from weights: a run, a file of them, or `pretrained` to ask the backbone's hub."),
    ] = None,
    phase: Annotated[Phase, typer.Option(help="Both phases, or the variance head alone on the encoder of --from.")] = (
        Phase.BOTH
    ),
    from_: Annotated[Path | None, typer.Option("--from", help="Run whose encoder `--phase variance` keeps.")] = None,
    autotune: Annotated[
        bool, typer.Option("--autotune", help="Measure first which switches make steps faster on this device.")
    ] = False,
) -> None:
    """Train an encoder and its variance head on a folder of images; no labels are used."""
    _prepare()
    from vssl.errors import UsageError
    from vssl_training.loop.job import StartingWeights, TrainingOptions
    from vssl_training.loop.training import train as run_training
    from vssl_training.recipe.reading import load_recipe, override
    from vssl_training.run.folder import Run
    from vssl_training.run.record import budget_of

    if (phase is Phase.VARIANCE) != (from_ is not None):
        raise UsageError("--phase variance and --from RUN go together; to start both phases from weights take --init")
    if from_ is not None and init is not None:
        raise UsageError("--from and --init exclude each other: name one")
    base = Run(from_).record().recipe if from_ is not None and recipe is None else load_recipe(recipe or "quick")
    resolved = override(base, set_ or [])
    if from_ is not None and resolved.variance.joint:
        raise UsageError("--phase variance: the recipe has variance.joint, and so no such phase")
    budget = budget_of(resolved, max_minutes, steps, epochs)
    start = StartingWeights(from_ or init, from_ is not None)
    options = TrainingOptions(val, max_unreadable, start, autotune, tuple(log or ()))
    skipped = run_training(resolved, data, out, budget, seed, options)
    echo(f"vssl: {out} is trained ({len(skipped)} files skipped); next: vssl export {out} --out BUNDLE", err=True)


def attach(
    backbone: Annotated[str, typer.Option(help="A model of timm, hf:FOLDER, or torchvision:NAME; it stays as it is.")],
    data: Annotated[
        list[str], typer.Option(help="Photographs: folder, .zip, .tar, archive.zip::folder; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one goes on.")],
    weights: Annotated[
        str | None,
        typer.Option(help="File of its weights, or `pretrained` to ask its hub; by default those on this machine."),
    ] = None,
    images: Annotated[int | None, typer.Option(min=50, help="Images to look at, drawn from all; 2000.")] = None,
    copies: Annotated[int | None, typer.Option(min=1, max=64, help="Degraded copies of each image; 4.")] = None,
    recipe: Annotated[str, typer.Option(help="Name of a recipe with `attach`.")] = "attach",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for what the backbone says, kept for other runs; else in the run.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**20 - 1, help="Seed of every random choice.")] = 0,
) -> None:
    """Put an embedding and a variance head on a pretrained encoder, by your photographs; no labels are needed."""
    _prepare()
    from vssl_training.attaching.attach import AttachJob, attach_pretrained
    from vssl_training.recipe.reading import load_recipe, override

    named = {"network.backbone": json.dumps(backbone), "attach.images": images, "attach.copies": copies}
    flags = [f"{key}={value}" for key, value in named.items() if value is not None]
    job = AttachJob(tuple(data), out, seed, cache)
    attach_pretrained(override(load_recipe(recipe), [*flags, *(set_ or [])]), weights, job)
    echo(f"vssl: {out} is attached; next: vssl export {out} --out BUNDLE", err=True)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one in full; without it, list all.")] = None,
) -> None:
    """List the recipes, or show one with every value."""
    import yaml

    from vssl_training.recipe.reading import description, load_recipe, recipe_names

    if name is None:
        for each in recipe_names():
            echo(f"{each:<12} {description(each)}")
    else:
        fields = load_recipe(name).model_dump(mode="json")
        echo(f"# {description(name)}\n{yaml.safe_dump(fields, sort_keys=False)}".rstrip())


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Annotated[str, typer.Option(help="Images to judge by: folder, .zip, or archive.zip::folder.")],
    bank: Annotated[
        str | None,
        typer.Option(help="Labelled images that are looked up; by default all others of --data."),
    ] = None,
    ood: Annotated[str | None, typer.Option(help="Out-of-distribution images, which u should single out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Judge embeddings and uncertainties: kNN accuracy, effective rank, AUROC of degraded against clean images."""
    _prepare()
    from vssl_training.judging.evaluation import evaluate as judge
    from vssl_training.judging.table import table

    figures = judge(model, data, bank, ood)
    if as_json:
        echo(json.dumps(figures, indent=2))
    else:
        echo(table(figures))


def _prepare() -> None:
    """Set, before torch is loaded, what suits its work on a CPU."""
    # Threads that spin at OpenMP's barriers slow training down threefold when another process needs one of the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    keep_freed_memory()

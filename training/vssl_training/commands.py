"""`vssl train` and `vssl evaluate`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer


def train(
    data: Annotated[str, typer.Option(help="Folder of images, .zip, .tar, archive.zip::folder, or tar shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run in it goes on.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe.")] = "quick",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Wall time of the run; the recipe's by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of the run, instead of a time.")] = None,
    val: Annotated[str | None, typer.Option(help="Labelled images to judge by; never trained on.")] = None,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the files that may be damaged before the run stops.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=2**20 - 1, help="Seed of every random choice.")] = 0,
) -> None:
    """Train an encoder and its variance head on a folder of images; no labels are used."""
    # Before torch loads its OpenMP: threads that spin at its barriers make training three times as slow as need be
    # whenever anything else wants one of the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from pydantic import ValidationError

    from vssl.errors import UsageError
    from vssl_training.recipe import load_recipe, override
    from vssl_training.run import Budget
    from vssl_training.train import train as run_training

    if max_minutes is not None and steps is not None:
        raise UsageError("--max-minutes and --steps exclude each other: name one")
    resolved = override(load_recipe(recipe), set_ or [])
    try:
        minutes = None if steps is not None else max_minutes or resolved.minutes
        budget = Budget(minutes=minutes, steps=steps)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]}: {first['msg']}") from error
    skipped = run_training(resolved, data, out, budget, seed, val, max_unreadable)
    typer.echo(f"vssl: {out} is trained ({len(skipped)} files skipped); next: vssl export {out} --out BUNDLE", err=True)


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Annotated[str, typer.Option(help="Images to judge by: folder, .zip, or archive.zip::folder.")],
    bank: Annotated[
        str | None, typer.Option(help="Images whose labels vote; without it, each image asks all the others.")
    ] = None,
    ood: Annotated[str | None, typer.Option(help="Images of another kind, that uncertainty should tell apart.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Judge embeddings and uncertainties: kNN accuracy, effective rank, AUROC of clean against spoilt images."""
    from vssl_training.evaluation import evaluate as judge

    figures = judge(model, data, bank, ood)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            if not name.endswith(("_low", "_high")):
                ends = [f"{figures[f'{name}_{end}']:.4g}" for end in ("low", "high") if f"{name}_{end}" in figures]
                text = f"{value:.4g}" if isinstance(value, float) else str(value)
                typer.echo(f"{name:<28} {text:<10} {' to '.join(ends)}".rstrip())

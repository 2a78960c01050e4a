"""`vssl neighbours`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vssl.cli import echo


def neighbours(
    queries: Annotated[Path, typer.Argument(help="Folder that `vssl embed` wrote: the images to look up.")],
    gallery: Annotated[Path, typer.Option(help="Folder that `vssl embed` wrote: the images to find.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each image.")] = 10,
    labels: Annotated[
        bool, typer.Option("--labels", help="By the gallery's labels, say what each match is worth.")
    ] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="With --labels: its calibration, instead of one fitted on the gallery.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="How often a prediction set may miss the label: .05, .1 or .2.")] = 0.1,
    risk: Annotated[float, typer.Option(help="Errors among the accepted: .01, .02, .05, .1 or .2.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each image.")] = False,
) -> None:
    """Find the nearest images of a gallery, exactly; with labels, classify each image or abstain."""
    from vssl.errors import UsageError
    from vssl.uncertainty.fitting import ALPHAS, RISKS
    from vssl_client.neighbours.gallery import open_gallery
    from vssl_client.neighbours.labels import read_labels
    from vssl_client.neighbours.look_up import as_text, looked_up

    for name, value, known in (("alpha", alpha, ALPHAS), ("risk", risk, RISKS)):
        if value not in known:
            raise UsageError(f"--{name} {value:g}: choose one of {', '.join(map(str, known))}")
    if bundle is not None and not labels:
        raise UsageError("--bundle is about what a match is worth: that needs --labels")
    stored = open_gallery(queries, gallery)
    known_labels = read_labels(stored, bundle) if labels else None
    if known_labels is not None and known_labels.why_not is not None:
        echo(f"vssl: p_correct is null: {known_labels.why_not}", err=True)
    failures: list[int] = []
    for row in looked_up(queries, stored, k, known_labels, f"{alpha:g}", f"{risk:g}", failures):
        echo(json.dumps(row, ensure_ascii=False) if as_json else as_text(row))
    if sum(failures):
        echo(f"vssl: {sum(failures):,} images of {queries} have no embedding and no row", err=True)

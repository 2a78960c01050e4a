"""`vssl gallery`, and the flags that its subcommands share."""

from pathlib import Path
from typing import Annotated

import typer

gallery = typer.Typer(
    help="Keep embedded images in a gallery: add, search, classify, curate.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="GALLERY", help="Name of the gallery, or an alias.")]
At = Annotated[
    str | None,
    typer.Option(
        help="Where galleries lie: a folder, s3://…, postgresql://…, qdrant://…, or a server, http://…; by default "
        "$VSSL_GALLERIES, else a folder among your data."
    ),
]
Bundle = Annotated[Path | None, typer.Option(help="The bundle that embeds; without one, the default model.")]
Where = Annotated[str | None, typer.Option(help='Which rows, as JSON: {"label": "shoe", "year": {"$gte": 2020}}')]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of lines for people.")]
K = Annotated[int, typer.Option("-k", min=1, max=1000, help="Neighbours of each image.")]

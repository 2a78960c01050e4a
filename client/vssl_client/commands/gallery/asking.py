"""Neighbours and labels of images."""

from typing import Annotated

import typer

from vssl.cli import echo
from vssl_client.commands.gallery.app import At, Bundle, Json, K, Name, Where, gallery


@gallery.command()
def search(
    name: Name,
    image: Annotated[list[str] | None, typer.Argument(help="Images to look up.")] = None,
    id: Annotated[list[str] | None, typer.Option(help="A row of the gallery to look up, in place of images.")] = None,
    k: K = 10,
    where: Where = None,
    column: Annotated[list[str] | None, typer.Option(help="A column to print, such as label; repeat it.")] = None,
    score: Annotated[str, typer.Option(help="cosine, csd or mls.")] = "cosine",
    bundle: Bundle = None,
    json: Json = False,
    at: At = None,
) -> None:
    """Find the rows of GALLERY that are nearest to images, or to rows of it."""
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import as_json, asked, found_as_lines

    with opened(name, at, bundle) as gallery:
        query, names = asked(image or [], id or [], where)
        found = gallery.search(**query, k=k, columns=column or [], score=score)  # type: ignore[arg-type]
    for line in found_as_lines(found, names, column or [], as_json if json else None):
        echo(line)


@gallery.command()
def classify(
    name: Name,
    image: Annotated[list[str] | None, typer.Argument(help="Images to classify.")] = None,
    id: Annotated[list[str] | None, typer.Option(help="A row of the gallery, in place of images.")] = None,
    alpha: Annotated[float, typer.Option(help="How often a prediction set may miss the label: .05, .1 or .2.")] = 0.1,
    risk: Annotated[float, typer.Option(help="Errors among the accepted: .01, .02, .05, .1 or .2.")] = 0.05,
    where: Where = None,
    bundle: Bundle = None,
    json: Json = False,
    at: At = None,
) -> None:
    """Label images by GALLERY, with the probability that the label is right, or abstain and say why."""
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import as_json, asked, classified_as_lines

    with opened(name, at, bundle) as gallery:
        query, names = asked(image or [], id or [], where)
        found = gallery.classify(**query, alpha=alpha, risk=risk)
    for line in classified_as_lines(found, names, as_json if json else None):
        echo(line)

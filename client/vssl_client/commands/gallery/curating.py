"""What a gallery shows of itself."""

from pathlib import Path
from typing import Annotated

import typer

from vssl.cli import echo
from vssl_client.commands.gallery.app import At, Json, Name, Where, gallery


@gallery.command()
def calibrate(name: Name, at: At = None, json: Json = False) -> None:
    """Learn from GALLERY's labelled rows how likely a match is right. Needs scikit-learn."""
    from vssl_client.commands.gallery.opening import opened, progress
    from vssl_client.commands.gallery.shown import as_json, as_lines

    with opened(name, at) as gallery, progress("calibrate") as heard:
        found = gallery.calibrate(heard)
    echo(as_json(found) if json else as_lines(found))


@gallery.command()
def duplicates(
    name: Name,
    threshold: Annotated[float, typer.Option(help="Least cosine of two images that show the same thing.")] = 0.98,
    json: Json = False,
    at: At = None,
) -> None:
    """Group the rows that show the same thing; first of each group is the one to keep."""
    from dataclasses import asdict

    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import as_json

    with opened(name, at) as gallery:
        for group in gallery.duplicates(threshold):
            echo(as_json(asdict(group)) if json else "\t".join([group.kept, *group.others]))


@gallery.command()
def outliers(
    name: Name,
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 20,
    json: Json = False,
    at: At = None,
) -> None:
    """Name the rows that are farthest from all others."""
    from dataclasses import asdict

    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import as_json

    with opened(name, at) as gallery:
        for one in gallery.outliers(n):
            echo(as_json(asdict(one)) if json else f"{one.distance:.3f}\t{one.id}")


@gallery.command()
def pick(
    name: Name,
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the first pick where nothing is labelled.")] = 0,
    at: At = None,
) -> None:
    """Name the rows to label next: far from what is labelled, the uncertain ones first."""
    from vssl_client.commands.gallery.opening import opened

    with opened(name, at) as gallery:
        for row in gallery.pick(n, seed):
            echo(row)


@gallery.command("map")
def map_(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV to write: id, x, y.")],
    fast: Annotated[bool, typer.Option("--fast", help="The two main directions, at once, in place of t-SNE.")] = False,
    at: At = None,
) -> None:
    """Lay GALLERY out in two dimensions. Needs the extra map, but for --fast."""
    from vssl_client.commands.gallery.opening import opened, progress
    from vssl_client.commands.gallery.shown import write_map

    with opened(name, at) as gallery, progress("map") as heard:
        found = gallery.map("pca" if fast else "tsne", heard)
    write_map(found, out)
    mapped = sum(row.mapped for row in found.rows)
    echo(f"{out}: {len(found.rows):,} rows, {mapped:,} of them mapped by {found.method}")


@gallery.command()
def export(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .csv or .parquet.")],
    where: Where = None,
    at: At = None,
) -> None:
    """Write what is known of rows to a file; Parquet has the vectors too."""
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import parsed

    with opened(name, at) as gallery:
        rows = gallery.export(out, parsed(where))
    echo(f"{out}: {rows:,} rows")

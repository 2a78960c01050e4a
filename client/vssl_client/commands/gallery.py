"""`vssl gallery …`. Its functions have many arguments because each flag is one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vssl.cli import echo

if TYPE_CHECKING:
    from vssl_client.galleries.places import OpenGallery

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
        help="Where galleries lie: a folder, s3://…, postgresql://…, qdrant://…; by default $VSSL_GALLERIES, else a "
        "folder among your data."
    ),
]
Bundle = Annotated[Path | None, typer.Option(help="The bundle that embeds; without one, the default model.")]
Where = Annotated[str | None, typer.Option(help='Which rows, as JSON: {"label": "shoe", "year": {"$gte": 2020}}')]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of lines for people.")]
K = Annotated[int, typer.Option("-k", min=1, max=1000, help="Neighbours of each image.")]


@gallery.command()
def create(
    name: Name,
    field: Annotated[
        list[str] | None, typer.Option(help="NAME=text|integer|number|boolean|time; repeat it for several.")
    ] = None,
    no_thumbnails: Annotated[bool, typer.Option("--no-thumbnails", help="Keep no small pictures.")] = False,
    bundle: Bundle = None,
    at: At = None,
) -> None:
    """Make an empty gallery for the embeddings of one encoder."""
    from contextlib import closing

    from vssl.bundle.default import default_bundle
    from vssl.bundle.reading import open_bundle
    from vssl_client.galleries.places import open_galleries
    from vssl_client.galleries.shown import fields_of
    from vssl_gallery.gallery import Gallery
    from vssl_gallery.store.contract import Spec

    opened = open_bundle(bundle or default_bundle())
    about = opened.manifest
    spec = Spec(
        about.encoder_id,
        about.outputs.dimension,
        fields_of(field or []),
        keep_thumbnails=not no_thumbnails,
        model=about.name,
        model_version=about.version,
        bundle_id=about.id,
    )
    with closing(open_galleries(at)) as place:
        Gallery.create(place, name, spec).close()
        echo(f"{name}: an empty gallery of {about.name} {about.version} at {place.address}")


@gallery.command("list")
def list_(at: At = None, json: Json = False) -> None:
    """Name the galleries and the aliases."""
    from contextlib import closing

    from vssl_client.galleries.places import open_galleries
    from vssl_client.galleries.shown import as_json

    with closing(open_galleries(at)) as place:
        names, aliases = place.galleries(), place.aliases()
    if json:
        echo(as_json({"galleries": names, "aliases": aliases}))
    else:
        for line in [*names, *(f"{alias} → {name}" for alias, name in aliases.items())]:
            echo(line)


@gallery.command()
def alias(
    alias: Annotated[str, typer.Argument(help="The alias.")],
    name: Annotated[str | None, typer.Argument(metavar="GALLERY", help="What it means; without it, it goes.")] = None,
    at: At = None,
) -> None:
    """Let an alias mean a gallery from now on: build a new one beside the old, then move its alias."""
    from contextlib import closing

    from vssl_client.galleries.places import open_galleries

    with closing(open_galleries(at)) as place:
        place.set_alias(alias, name)


@gallery.command()
def info(name: Name, at: At = None, json: Json = False) -> None:
    """Describe a gallery: encoder, rows, index, calibration."""
    from vssl_client.galleries.shown import about, as_json, as_lines

    with _opened(name, at) as opened:
        found = about(opened)
    echo(as_json(found) if json else as_lines(found))


@gallery.command()
def add(
    name: Name,
    source: Annotated[list[str], typer.Argument(help="Images, as for `vssl embed`.")],
    metadata: Annotated[
        Path | None, typer.Option(help="A .csv, .jsonl or .parquet with a column path, and fields of each new image.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Embed images that are there already, too.")] = False,
    url: Annotated[list[str] | None, typer.Option(help="A server that embeds, in place of this process.")] = None,
    bundle: Bundle = None,
    api_key: Annotated[str | None, typer.Option(envvar="VSSL_API_KEY", help="Key, where a server needs one.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on the screen but what went wrong.")] = False,
    json: Json = False,
    at: At = None,
) -> None:
    """Embed the images of SOURCE that GALLERY does not have yet. Stopped at any moment and run again, it goes on."""
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from vssl.errors import VsslError
    from vssl_client.commands.embed_opening import open_embedder, open_images
    from vssl_client.folder.contract import SILENT
    from vssl_client.folder.progress import ProgressBar
    from vssl_client.galleries.adding import add_images
    from vssl_client.galleries.metadata import read_metadata
    from vssl_client.galleries.shown import as_json, problems
    from vssl_client.options import Options

    known = None if metadata is None else read_metadata(metadata)
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(name, at))
        images = stack.enter_context(closing(open_images(source)))
        embedder = stack.enter_context(open_embedder(url, bundle, Options(api_key=api_key)))
        reporter = SILENT if quiet or json else stack.enter_context(ProgressBar(images))
        found = add_images(images, opened, embedder, metadata=known, overwrite=overwrite, reporter=reporter)
    passed = images.passed_over.as_text()
    if json:
        echo(as_json(asdict(found)))
    elif not quiet:
        echo(f"{name}: {found.embedded:,} images of the source, {found.failed:,} failed ({found.new:,} in this run)")
        if passed:
            echo(passed)
    wrong = problems(found, images.passed_over.unreadable_as_text())
    if wrong:
        raise VsslError("\n".join(wrong))


@gallery.command("import")
def import_(
    name: Name,
    out: Annotated[Path, typer.Argument(help="Folder of Parquet files that `vssl embed` wrote.")],
    at: At = None,
) -> None:
    """Put the embeddings of a folder into GALLERY, without embedding again."""
    from vssl.errors import VsslError
    from vssl_client.galleries.importing import import_parts

    with _opened(name, at) as opened:
        rows, failed = import_parts(out, opened)
    echo(f"{name}: {rows:,} rows of {out}")
    if failed:
        raise VsslError(f"{out}: {failed:,} rows have no embedding, and were left out; `vssl embed` says why")


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
    from vssl_client.galleries.asking import asked
    from vssl_client.galleries.shown import as_json, found_as_lines, parsed

    columns, filtered = column or [], parsed(where)
    with _opened(name, at) as opened:
        query = asked(opened, image or [], id or [], bundle)
        found = opened.search(query.queries, k, filtered, columns, score=score)  # type: ignore[arg-type]
    for line in found_as_lines(found, query.names, columns, as_json if json else None):
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
    from vssl_client.galleries.asking import asked
    from vssl_client.galleries.shown import as_json, classified_as_lines, parsed

    filtered = parsed(where)
    with _opened(name, at) as opened:
        query = asked(opened, image or [], id or [], bundle)
        found = opened.classify(query.queries, alpha, risk, filtered)
    for line in classified_as_lines(found, query.names, as_json if json else None):
        echo(line)


@gallery.command()
def label(
    name: Name,
    label: Annotated[str, typer.Argument(help='The label; "" takes labels away.')],
    id: Annotated[list[str], typer.Argument(help="Rows of the gallery.")],
    at: At = None,
) -> None:
    """Set the label of rows."""
    with _opened(name, at) as opened:
        rows = opened.change(id, {"label": label or None}).rows
    echo(f"{name}: {rows:,} of {len(id):,} rows labelled")


@gallery.command()
def calibrate(name: Name, at: At = None, json: Json = False) -> None:
    """Learn from GALLERY's labelled rows how likely a match is right. Needs scikit-learn."""
    from vssl_client.galleries.shown import as_json, as_lines

    with _opened(name, at) as opened:
        record = opened.calibrate()
    found = {"rows": record.gallery.images, "classes": len(record.classes), **record.gallery.measured}
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

    from vssl_client.galleries.shown import as_json
    from vssl_gallery.curating import find_duplicates

    with _opened(name, at) as opened:
        for group in find_duplicates(opened, threshold):
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

    from vssl_client.galleries.shown import as_json
    from vssl_gallery.curating import find_outliers

    with _opened(name, at) as opened:
        for one in find_outliers(opened, n):
            echo(as_json(asdict(one)) if json else f"{one.distance:.3f}\t{one.id}")


@gallery.command()
def pick(
    name: Name,
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the first pick where nothing is labelled.")] = 0,
    at: At = None,
) -> None:
    """Name the rows to label next: far from what is labelled, the uncertain ones first."""
    from vssl_gallery.curating import pick_next

    with _opened(name, at) as opened:
        for row in pick_next(opened, n, seed):
            echo(row)


@gallery.command("map")
def map_(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV to write: id, x, y.")],
    fast: Annotated[bool, typer.Option("--fast", help="The two main directions, at once, in place of t-SNE.")] = False,
    at: At = None,
) -> None:
    """Lay GALLERY out in two dimensions. Needs the extra map, but for --fast."""
    from vssl_client.galleries.shown import write_map
    from vssl_gallery.curating import map_of
    from vssl_gallery.map import main_directions, tsne

    with _opened(name, at) as opened:
        found = map_of(opened, main_directions if fast else tsne)
    write_map(found, out)
    echo(f"{out}: {len(found.ids):,} rows, {int(found.map.mapped.sum()):,} of them mapped by {found.map.method}")


@gallery.command()
def delete(
    name: Name,
    where: Where = None,
    all: Annotated[bool, typer.Option("--all", help="The whole gallery.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    at: At = None,
) -> None:
    """Delete rows that match, with their thumbnails, or the whole gallery."""
    from contextlib import closing

    from vssl.errors import UsageError
    from vssl_client.galleries.places import open_galleries
    from vssl_client.galleries.shown import parsed

    if all == (where is not None):
        raise UsageError("name which rows by --where, or the whole gallery by --all")
    if all and not dry_run:
        with closing(open_galleries(at)) as place:
            place.drop(name)
        echo(f"{name}: gone")
        return
    with _opened(name, at) as opened:
        rows = opened.info().rows if all else opened.delete(parsed(where) or {}, dry_run).rows
    echo(f"{name}: {rows:,} rows {'would be deleted' if dry_run else 'deleted'}")


@gallery.command()
def export(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .csv or .parquet.")],
    where: Where = None,
    at: At = None,
) -> None:
    """Write what is known of rows to a file; Parquet has the vectors too."""
    from vssl_client.galleries.exporting import export_rows
    from vssl_client.galleries.shown import parsed

    with _opened(name, at) as opened:
        rows = export_rows(opened, out, parsed(where))
    echo(f"{out}: {rows:,} rows")


@gallery.command()
def snapshot(name: Name, out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")], at: At = None) -> None:
    """Write GALLERY to a folder of Parquet files with the hash of each."""
    from vssl_gallery.store.snapshot import write_snapshot

    with _opened(name, at) as opened:
        write_snapshot(opened.store, out)
    echo(f"{out}: a snapshot of {name}; `vssl gallery restore` reads it into any store")


@gallery.command()
def restore(name: Name, folder: Annotated[Path, typer.Argument(help="Folder of a snapshot.")], at: At = None) -> None:
    """Make GALLERY from a snapshot, in any kind of store."""
    from contextlib import closing

    from vssl_client.galleries.places import open_galleries
    from vssl_gallery.store.snapshot import restore as restored

    with closing(open_galleries(at)) as place, closing(restored(place, name, folder)) as store:
        echo(f"{name}: {store.info().rows:,} rows at {place.address}")


@gallery.command()
def maintain(name: Name, at: At = None) -> None:
    """Compact GALLERY, bring its index up to date, erase what was deleted."""
    with _opened(name, at) as opened:
        for line in opened.store.maintain().actions:
            echo(line)


def _opened(name: str, at: str | None) -> "OpenGallery":
    from vssl_client.galleries.places import open_gallery

    return open_gallery(name, at)

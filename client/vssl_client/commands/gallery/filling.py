"""Images and embeddings put into a gallery."""

from pathlib import Path
from typing import Annotated

import typer

from vssl.cli import echo
from vssl_client.commands.embed import EngineChoice
from vssl_client.commands.gallery.app import At, Bundle, Json, Name, gallery


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
    engine: Annotated[EngineChoice, typer.Option(help="Where --bundle runs: here, or on Ray.")] = EngineChoice.LOCAL,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster; without it Ray starts on this machine.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on the screen but what went wrong.")] = False,
    json: Json = False,
    at: At = None,
) -> None:
    """Embed the images of SOURCE that GALLERY does not have yet. Stopped at any moment and run again, it goes on."""
    from contextlib import ExitStack, closing
    from dataclasses import asdict

    from vssl.errors import VsslError
    from vssl_client.commands.embed_opening import RETRIES, open_images
    from vssl_client.commands.gallery.opening import Embedding, opened, reopener, way_into
    from vssl_client.commands.gallery.shown import as_json, problems
    from vssl_client.filling.adding import add_images
    from vssl_client.filling.metadata import read_metadata
    from vssl_client.folder.contract import SILENT
    from vssl_client.folder.progress import ProgressBar

    by = Embedding(url, bundle, api_key, engine is EngineChoice.RAY, ray_address)
    known = None if metadata is None else read_metadata(metadata)
    with ExitStack() as stack:
        target = stack.enter_context(opened(name, at, api_key=api_key, retries=RETRIES))
        images = stack.enter_context(closing(open_images(source)))
        way = stack.enter_context(way_into(target, images, source[0], by, reopener(name, at, api_key)))
        reporter = SILENT if quiet or json else stack.enter_context(ProgressBar(images))
        found = add_images(images, target, way, metadata=known, overwrite=overwrite, reporter=reporter)
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
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.filling.importing import import_parts

    with opened(name, at) as found:
        rows, failed = import_parts(out, found)
    echo(f"{name}: {rows:,} rows of {out}")
    if failed:
        raise VsslError(f"{out}: {failed:,} rows have no embedding, and were left out; `vssl embed` says why")


@gallery.command()
def label(
    name: Name,
    label: Annotated[str, typer.Argument(help='The label; "" takes labels away.')],
    id: Annotated[list[str], typer.Argument(help="Rows of the gallery.")],
    at: At = None,
) -> None:
    """Set the label of rows."""
    from vssl_client.commands.gallery.opening import opened

    with opened(name, at) as found:
        rows = found.change(id, label=label or None).rows
    echo(f"{name}: {rows:,} of {len(id):,} rows labelled")

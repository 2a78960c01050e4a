"""Galleries made, named, looked after and removed."""

from pathlib import Path
from typing import Annotated

import typer

from vssl.cli import echo
from vssl_client.commands.gallery.app import At, Bundle, Json, Name, Where, gallery


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
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import fields_of

    with opened(name, at, bundle) as found:
        made = found.create(fields_of(field or []), keep_thumbnails=not no_thumbnails)
        echo(f"{name}: an empty gallery of {made.model} {made.model_version} at {found.address}")


@gallery.command("list")
def list_(at: At = None, json: Json = False) -> None:
    """Name the galleries and the aliases."""
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import as_json

    with opened("", at) as found:
        names = found.names()
    if json:
        echo(as_json({"galleries": names.galleries, "aliases": names.aliases}))
    else:
        for line in [*names.galleries, *(f"{alias} → {name}" for alias, name in names.aliases.items())]:
            echo(line)


@gallery.command()
def alias(
    alias: Annotated[str, typer.Argument(help="The alias.")],
    name: Annotated[str | None, typer.Argument(metavar="GALLERY", help="What it means; without it, it goes.")] = None,
    at: At = None,
) -> None:
    """Let an alias mean a gallery from now on: build a new one beside the old, then move its alias."""
    from vssl_client.commands.gallery.opening import opened

    with opened(name or alias, at) as found:
        if name is None:
            found.drop_alias(alias)
        else:
            found.set_alias(alias)


@gallery.command()
def info(name: Name, at: At = None, json: Json = False) -> None:
    """Describe a gallery: encoder, rows, index, calibration."""
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import about, as_json, as_lines

    with opened(name, at) as described:
        found = about(described.info())
    echo(as_json(found) if json else as_lines(found))


@gallery.command()
def delete(
    name: Name,
    where: Where = None,
    all: Annotated[bool, typer.Option("--all", help="The whole gallery.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    at: At = None,
) -> None:
    """Delete rows that match, with their thumbnails, or the whole gallery."""
    from vssl.errors import UsageError
    from vssl_client.commands.gallery.opening import opened
    from vssl_client.commands.gallery.shown import parsed

    if all == (where is not None):
        raise UsageError("name which rows by --where, or the whole gallery by --all")
    with opened(name, at) as found:
        if all and not dry_run:
            found.drop()
            echo(f"{name}: gone")
            return
        rows = found.count() if all else found.delete(where=parsed(where) or {}, dry_run=dry_run).rows
    echo(f"{name}: {rows:,} rows {'would be deleted' if dry_run else 'deleted'}")


@gallery.command()
def snapshot(name: Name, out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")], at: At = None) -> None:
    """Write GALLERY to a folder of Parquet files with the hash of each."""
    from vssl_client.commands.gallery.opening import opened, progress

    with opened(name, at) as found, progress("snapshot") as heard:
        found.snapshot(out, heard)
    echo(f"{out}: a snapshot of {name}; `vssl gallery restore` reads it into any store")


@gallery.command()
def restore(name: Name, folder: Annotated[Path, typer.Argument(help="Folder of a snapshot.")], at: At = None) -> None:
    """Make GALLERY from a snapshot, in any kind of store."""
    from vssl_client.commands.gallery.opening import opened, progress

    with opened(name, at) as found, progress("restore") as heard:
        rows = found.restore(folder, heard)
        echo(f"{name}: {rows:,} rows at {found.address}")


@gallery.command()
def maintain(name: Name, at: At = None) -> None:
    """Compact GALLERY, bring its index up to date, erase what was deleted."""
    from vssl_client.commands.gallery.opening import opened, progress

    with opened(name, at) as found, progress("maintain") as heard:
        for line in found.maintain(heard):
            echo(line)

"""`vssl embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from vssl_client.embedder import Embedder
    from vssl_client.job import Summary


def embed(
    source: Annotated[str, typer.Argument(help="Images: a folder, a .zip of one, or archive.zip::folder/inside.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the Parquet parts.")],
    url: Annotated[str | None, typer.Option(help="A server, such as http://127.0.0.1:8000.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle to run in this process, without a server.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="VSSL_API_KEY", help="Key, where the server wants one.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="First delete the embeddings that OUT holds.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on the screen but what went wrong.")] = False,
) -> None:
    """Embed every image of SOURCE into Parquet files. Stopped at any moment and run again, it goes on."""
    from contextlib import ExitStack, closing

    from vssl.cli import INTERRUPTED
    from vssl.errors import VsslError
    from vssl.sources import open_source
    from vssl_client.errors import ClientError
    from vssl_client.job import SILENT, embed_source
    from vssl_client.progress import ProgressBar

    again = f"finished parts stay in {out}; run the same command again to go on"
    try:
        with ExitStack() as stack:
            images = stack.enter_context(closing(open_source(source)))
            embedder = stack.enter_context(_open_embedder(url, bundle, api_key))
            reporter = SILENT if quiet else stack.enter_context(ProgressBar(images))
            try:
                summary = embed_source(images, out, embedder, overwrite=overwrite, reporter=reporter)
            except ClientError as error:
                raise VsslError(f"{error}\n{again}") from error
    except KeyboardInterrupt:
        interrupted = VsslError(f"interrupted; {again}")
        interrupted.exit_status = INTERRUPTED
        raise interrupted from None
    if not quiet:
        typer.echo(
            f"{out}: {summary.embedded:,} images embedded, {summary.failed:,} failed ({summary.new:,} in this run)"
        )
    if summary.failed:
        raise VsslError(_failures(summary, out))


def _open_embedder(url: str | None, bundle: Path | None, api_key: str | None) -> "AbstractContextManager[Embedder]":
    from vssl.bundle import open_bundle
    from vssl.errors import UsageError
    from vssl_client.client import Client
    from vssl_client.local import LocalEmbedder

    if url is not None and bundle is None:
        with Client(
            url, retries=0, api_key=api_key
        ) as probe:  # a wrong address is told at once, not after a minute of retries
            probe.model()
        return Client(url, api_key=api_key)
    if bundle is not None and url is None:
        return LocalEmbedder(open_bundle(bundle))
    raise UsageError("name a server with --url, or a bundle to run in this process with --bundle: one of the two")


def _failures(summary: "Summary", out: Path) -> str:
    lines = [f"  {path}: {reason}" for path, reason in summary.failures]
    more = summary.failed - len(lines)
    if more:
        lines.append(f"  … and {more:,} more; the column `error` in {out} has them all")
    return "\n".join([f"{summary.failed:,} images could not be embedded:", *lines])

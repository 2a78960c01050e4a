"""`vssl embed`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from vssl.sources import Source
    from vssl_client.embedder import Embedder
    from vssl_client.job import Summary


class OutputFormat(StrEnum):
    """The values of `--format`."""

    PARQUET = "parquet"
    NPZ = "npz"
    JSONL = "jsonl"


class TransportChoice(StrEnum):
    """The values of `--transport`."""

    HTTP = "http"
    GRPC = "grpc"
    TRITON = "triton"


class EngineChoice(StrEnum):
    """The values of `--engine`."""

    LOCAL = "local"
    RAY = "ray"


SOURCE = (
    "Images: a folder, a .zip or .tar of one, archive.zip::folder/inside, a quoted pattern such as 'photos/**/*.jpg', "
    "image files, or - for a list of paths on standard input."
)
URL = "A server, such as http://127.0.0.1:8000; repeat it for several servers of the same model."


def embed(
    source: Annotated[list[str], typer.Argument(help=SOURCE)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the parts.")],
    url: Annotated[list[str] | None, typer.Option(help=URL)] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle to run in this process, without a server; or else the default model.")
    ] = None,
    transport: Annotated[TransportChoice, typer.Option(help="How to talk to servers.")] = TransportChoice.HTTP,
    model: Annotated[str | None, typer.Option(help="The model's name, where a server has several.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="VSSL_API_KEY", help="Key, where the server wants one.")] = None,
    engine: Annotated[EngineChoice, typer.Option(help="Where --bundle runs: here, or on Ray.")] = EngineChoice.LOCAL,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster; without it Ray starts on this machine.")] = None,
    format: Annotated[OutputFormat, typer.Option(help="What the parts are written in.")] = OutputFormat.PARQUET,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="First delete the embeddings that OUT holds.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail (status 1) if any file was passed over.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on the screen but what went wrong.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as a line of JSON; no progress bar.")] = False,
) -> None:
    """Embed every image of SOURCE into files of embeddings. Stopped at any moment and run again, it goes on."""
    import time
    from contextlib import ExitStack, closing

    from vssl.cli import INTERRUPTED
    from vssl.errors import UsageError, VsslError
    from vssl_client.errors import ClientError
    from vssl_client.job import SILENT, embed_source
    from vssl_client.progress import ProgressBar

    if (engine is EngineChoice.RAY and bundle is None) or (ray_address and engine is not EngineChoice.RAY):
        raise UsageError("--engine ray runs a bundle: give --bundle too; --ray-address goes with --engine ray")
    begun = time.monotonic()
    again = f"finished parts stay in {out}; run the same command again to go on"
    try:
        with ExitStack() as stack:
            images = stack.enter_context(closing(_open_source(source)))
            embedder = stack.enter_context(_open_embedder(url, bundle, transport, model, api_key))
            if not (url or bundle or quiet or json):
                typer.echo("vssl: no --url and no --bundle, so this is the default model; see `vssl info`", err=True)
            work = None
            if engine is EngineChoice.RAY and bundle is not None:
                from vssl_client.ray_engine import RayWork

                work = stack.enter_context(RayWork(images, source[0], bundle, ray_address))
            reporter = SILENT if quiet or json else stack.enter_context(ProgressBar(images))
            try:
                summary = embed_source(
                    images, out, embedder, work=work, format=format.value, overwrite=overwrite, reporter=reporter
                )
            except ClientError as error:
                raise VsslError(f"{error}\n{again}") from error
    except KeyboardInterrupt:
        interrupted = VsslError(f"interrupted; {again}")
        interrupted.exit_status = INTERRUPTED
        raise interrupted from None
    if json:
        typer.echo(_as_json(summary, out, time.monotonic() - begun, None if work is None else work.images_of_nodes))
    elif not quiet:
        typer.echo(
            f"{out}: {summary.embedded:,} images embedded, {summary.failed:,} failed ({summary.new:,} in this run)"
        )
    passed = images.passed_over.told()
    if passed and not (json or quiet or strict):
        typer.echo(passed)
    wrong = [_failures(summary, out) if summary.failed else None, images.passed_over.told_unreadable()]
    if any(wrong) or (strict and passed):
        raise VsslError("\n".join(filter(None, [*wrong, passed if strict else None])))


def _open_source(names: list[str]) -> "Source":
    import os
    import sys

    from vssl.errors import UsageError
    from vssl.selections import Listed, split
    from vssl.sources import is_image, open_source

    if names == ["-"]:
        return Listed(split(sys.stdin.buffer))
    if len(names) == 1 and not (is_image(names[0]) and Path(names[0]).is_file()):
        return open_source(names[0])
    wrong = next((name for name in names if not Path(name).is_file()), None)
    if wrong is not None:
        raise UsageError(f"{wrong}: no such file; SOURCE is one folder or archive, or one or more image files")
    return Listed(map(os.fsencode, names))


def _open_embedder(
    urls: list[str] | None, bundle: Path | None, transport: TransportChoice, model: str | None, api_key: str | None
) -> "AbstractContextManager[Embedder]":
    from vssl.bundle import open_bundle
    from vssl.default import default_bundle
    from vssl.errors import UsageError
    from vssl_client.client import Client
    from vssl_client.local import LocalEmbedder

    if urls and bundle is None:
        # A wrong address is told at once, not after minutes of retries; but of several one may be away.
        with Client(urls, transport=transport.value, model=model, retries=0, api_key=api_key) as probe:
            probe.model()
        return Client(urls, transport=transport.value, model=model, retries=RETRIES, api_key=api_key)
    if urls:
        raise UsageError("--url names a server, and --bundle what runs in this process: one of the two")
    return LocalEmbedder(open_bundle(bundle or default_bundle()))


RETRIES = 10
"""About two minutes of pauses: a server that is restarted costs no more than that."""


def _as_json(summary: "Summary", out: Path, seconds: float, nodes: dict[str, int] | None) -> str:
    import json
    import os
    from dataclasses import asdict

    fields = {"out": os.fsencode(out).decode(errors="replace"), **asdict(summary), "seconds": round(seconds, 3)}
    fields["images_per_second"] = round(summary.new / seconds, 1)
    return json.dumps(fields if nodes is None else {**fields, "nodes": nodes}, ensure_ascii=False)


def _failures(summary: "Summary", out: Path) -> str:
    lines = [f"  {path}: {reason}" for path, reason in summary.failures]
    more = summary.failed - len(lines)
    if more:
        lines.append(f"  … and {more:,} more; the column `error` in {out} has them all")
    return "\n".join([f"{summary.failed:,} images could not be embedded:", *lines])

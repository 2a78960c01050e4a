"""`vssl embed`.

`embed` is long and has many arguments because each of its flags is one.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from vssl.cli import echo


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
    "image files, or - for a list of paths on standard input. Of an object store: s3://BUCKET/FOLDER, gs://…, and "
    "archives at https://…"
)
URL = "A server, such as http://127.0.0.1:8000; repeat it for several servers of the same model."


def embed(
    source: Annotated[list[str], typer.Argument(help=SOURCE)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the parts; s3://BUCKET/FOLDER too.")],
    url: Annotated[list[str] | None, typer.Option(help=URL)] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle to run in this process, or builtin:tiny; without one, the default model."),
    ] = None,
    transport: Annotated[TransportChoice, typer.Option(help="How to talk to servers.")] = TransportChoice.HTTP,
    model: Annotated[str | None, typer.Option(help="The model's name, where a server has several.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="VSSL_API_KEY", help="Key, where a server needs one.")] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        typer.Option(help="Which of the bundle's models runs here; by default by the provider."),
    ] = None,
    engine: Annotated[EngineChoice, typer.Option(help="Where --bundle runs: here, or on Ray.")] = EngineChoice.LOCAL,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster; without it Ray starts on this machine.")] = None,
    format: Annotated[OutputFormat, typer.Option(help="What the parts are written in.")] = OutputFormat.PARQUET,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="First delete the embeddings that OUT holds.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also embed again what has failed, in the parts that hold it.")
    ] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Also embed again what has changed since; reads every file.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Embed so many images at most, then end.")] = None,
    no_variance: Annotated[bool, typer.Option("--no-variance", help="Leave the variance out: half the size.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be embedded.")] = False,
    connections: Annotated[int, typer.Option(min=1, help="Requests under way at once to each server.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer of a server.")] = 60.0,
    resize_locally: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="Decode here, and send pixels where they are fewer bytes; auto: once the line proves slow."),
    ] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Fail (status 1) if any file was passed over.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on the screen but what went wrong.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as a line of JSON; no progress bar.")] = False,
) -> None:
    """Embed every image of SOURCE into files of embeddings. Stopped at any moment and run again, it goes on."""
    import time
    from contextlib import ExitStack, closing

    from vssl.cli import INTERRUPTED
    from vssl.errors import VsslError
    from vssl.objects.path import path_of
    from vssl_client.commands.embed_messages import report_plan, report_problems, summary_as_json
    from vssl_client.commands.embed_opening import RETRIES, check_where, open_embedder, open_images
    from vssl_client.errors import ClientError
    from vssl_client.folder.contract import SILENT, Choice
    from vssl_client.folder.job import embed_source, plan
    from vssl_client.folder.progress import ProgressBar
    from vssl_client.options import RESIZING, Options

    on_ray = engine is EngineChoice.RAY
    check_where(url, bundle, on_ray, ray_address, precision)
    begun, place = time.monotonic(), path_of(out)
    choice = Choice(retry_failed, changed, limit, variance=not no_variance)
    options = Options(transport.value, model, timeout, RETRIES, connections, api_key, None, RESIZING[resize_locally])
    again = f"finished parts stay in {place}; run the same command again to go on"
    try:
        with ExitStack() as stack:
            images = stack.enter_context(closing(open_images(source)))
            embedder = stack.enter_context(open_embedder(url, bundle, options, precision))
            if not (url or bundle or quiet or json):
                echo("vssl: no --url and no --bundle, so this is the default model; see `vssl info`", err=True)
            if dry_run:
                planned = plan(images, place, embedder, format=format.value, overwrite=overwrite, choice=choice)
                report_plan(planned, place, json)
                return
            work = None
            if on_ray and bundle is not None:
                from vssl_client.folder.ray import rows_on_nodes  # it imports pyarrow

                work = stack.enter_context(rows_on_nodes(images, source[0], bundle, ray_address))
            reporter = SILENT if quiet or json else stack.enter_context(ProgressBar(images))
            try:
                summary = embed_source(
                    images,
                    place,
                    embedder,
                    work=work,
                    format=format.value,
                    overwrite=overwrite,
                    choice=choice,
                    reporter=reporter,
                )
            except ClientError as error:
                raise VsslError(f"{error}\n{again}") from error
    except KeyboardInterrupt:
        interrupted = VsslError(f"interrupted; {again}")
        interrupted.exit_status = INTERRUPTED
        raise interrupted from None
    if json:
        echo(summary_as_json(summary, place, time.monotonic() - begun, None if work is None else work.images_of_nodes))
    elif not quiet:
        echo(f"{place}: {summary.embedded:,} images embedded, {summary.failed:,} failed ({summary.new:,} in this run)")
    report_problems(images, summary, place, strict, silent=json or quiet)

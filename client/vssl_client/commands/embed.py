"""`vssl embed`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vssl.cli import echo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from vssl.sources.source import Source
    from vssl_client.embedding.contract import Embedder
    from vssl_client.folder.contract import Plan, Summary
    from vssl_client.options import Options


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
    from vssl_client.folder.contract import SILENT, Choice
    from vssl_client.folder.job import embed_source, plan
    from vssl_client.folder.progress import ProgressBar
    from vssl_client.options import Options

    if (engine is EngineChoice.RAY and bundle is None) or (ray_address and engine is not EngineChoice.RAY):
        raise UsageError("--engine ray runs a bundle: give --bundle too; --ray-address goes with --engine ray")
    begun = time.monotonic()
    choice = Choice(retry_failed, changed, limit, variance=not no_variance)
    options = Options(transport.value, model, timeout, api_key=api_key, connections=connections)
    again = f"finished parts stay in {out}; run the same command again to go on"
    try:
        with ExitStack() as stack:
            images = stack.enter_context(closing(_open_source(source)))
            embedder = stack.enter_context(_open_embedder(url, bundle, options))
            if not (url or bundle or quiet or json):
                echo("vssl: no --url and no --bundle, so this is the default model; see `vssl info`", err=True)
            if dry_run:
                _tell_plan(
                    plan(images, out, embedder, format=format.value, overwrite=overwrite, choice=choice), out, json
                )
                return
            work = None
            if engine is EngineChoice.RAY and bundle is not None:
                from vssl_client.folder.ray import RayWork

                work = stack.enter_context(RayWork(images, source[0], bundle, ray_address))
            reporter = SILENT if quiet or json else stack.enter_context(ProgressBar(images))
            try:
                summary = embed_source(
                    images,
                    out,
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
        echo(_as_json(summary, out, time.monotonic() - begun, None if work is None else work.images_of_nodes))
    elif not quiet:
        echo(f"{out}: {summary.embedded:,} images embedded, {summary.failed:,} failed ({summary.new:,} in this run)")
    _tell_what_is_wrong(images, summary, out, strict, silent=json or quiet)


def _open_source(names: list[str]) -> "Source":
    import os
    import sys

    from vssl.errors import UsageError
    from vssl.images.names import is_image
    from vssl.sources.opening import open_source
    from vssl.sources.selections import Listed, split

    if names == ["-"]:
        if sys.stdin is None:
            raise UsageError("-: standard input is closed; send it a list of files")
        return Listed(split(sys.stdin.buffer))
    if len(names) == 1 and not (is_image(names[0]) and Path(names[0]).is_file()):
        return open_source(names[0])
    wrong = next((name for name in names if not Path(name).is_file()), None)
    if wrong is not None:
        raise UsageError(f"{wrong}: no such file; SOURCE is one folder or archive, or one or more image files")
    return Listed(map(os.fsencode, names))


def _open_embedder(
    urls: list[str] | None, bundle: Path | None, options: "Options"
) -> "AbstractContextManager[Embedder]":
    from functools import partial

    from vssl.bundle.default import default_bundle
    from vssl.bundle.reading import open_bundle
    from vssl.errors import UsageError
    from vssl_client.client import Client
    from vssl_client.embedding.local import LocalEmbedder

    if urls and bundle is None:
        client = partial(
            Client,
            urls,
            transport=options.transport,
            model=options.model,
            timeout=options.timeout,
            connections=options.connections,
            api_key=options.api_key,
        )
        # A wrong address is told at once, not after minutes of retries; but of several one may be away.
        with client(retries=0) as probe:
            probe.model()
        return client(retries=RETRIES)
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


def _tell_plan(plan: "Plan", out: Path, json: bool) -> None:
    import os
    from dataclasses import asdict
    from json import dumps

    if json:
        echo(dumps({"out": os.fsencode(out).decode(errors="replace"), **asdict(plan)}, ensure_ascii=False))
    else:
        echo(
            f"{out}: {plan.images:,} images in the source, {plan.done:,} rows, {plan.failed:,} of them failed; "
            f"{plan.to_embed:,} to embed; nothing was done"
        )


def _tell_what_is_wrong(images: "Source", summary: "Summary", out: Path, strict: bool, silent: bool) -> None:
    """Print what was passed over; raise what ends a job with status 1."""
    from vssl.errors import VsslError

    passed = images.passed_over.as_text()
    if passed and not (silent or strict):
        echo(passed)
    wrong = [*_failures(summary, out), *_changes(summary), images.passed_over.unreadable_as_text()]
    if any(wrong) or (strict and passed):
        raise VsslError("\n".join(filter(None, [*wrong, passed if strict else None])))


def _failures(summary: "Summary", out: Path) -> list[str]:
    if not summary.failed:
        return []
    lines = [f"  {path}: {reason}" for path, reason in summary.failures]
    more = summary.failed - len(lines)
    if more:
        lines.append(f"  … and {more:,} more; the column `error` in {out} has them all")
    return [f"{summary.failed:,} images could not be embedded:", *lines, "  --retry-failed tries them again"]


def _changes(summary: "Summary") -> list[str]:
    if not summary.changed:
        return []
    lines = [f"  {path}" for path in summary.changes]
    more = summary.changed - len(lines)
    if more:
        lines.append(f"  … and {more:,} more")
    return [f"{summary.changed:,} images have changed since they were embedded (--changed embeds them again):", *lines]

"""`vssl export`, `vssl info` and `vssl verify`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    out: Annotated[Path, typer.Option(help="The bundle to write: a folder, or a file ending in .zip.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; the bundle's file name by default.")] = None,
    model_version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
) -> None:
    """Turn a run into a bundle: an ONNX file checked against torch, and the manifest that describes it."""
    from vssl_export.bundle_writer import export_run

    manifest = export_run(run, out, name or out.resolve().stem, model_version)
    parity = manifest.models["fp32"].parity
    typer.echo(
        f"vssl: {out} holds {manifest.name} {manifest.version}; ONNX Runtime against torch on {parity.images} images: "
        f"largest difference {parity.embedding:.1g} (embedding), {parity.log_variance:.1g} (log variance), "
        f"{parity.uncertainty:.1g} (uncertainty); next: vssl serve {out}",
        err=True,
    )


def info(
    bundle: Annotated[Path, typer.Argument(help="A bundle: a folder, or a .zip of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Say what is in a bundle, after checking that no byte of it has changed."""
    from vssl.bundle import open_bundle
    from vssl_export.description import describe

    manifest = open_bundle(bundle).manifest
    typer.echo(manifest.model_dump_json(indent=2) if as_json else describe(manifest))


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle: a folder, or a .zip of it.")],
    data: Annotated[
        str | None, typer.Option(help="Images to compare precisions on: folder, .zip, or archive.zip::folder.")
    ] = None,
) -> None:
    """Check a bundle on this machine: hashes, preprocessing, signature, outputs, parity of precisions."""
    from vssl.errors import VsslError
    from vssl_export.verification import verify as checks

    failed = []
    for check in checks(bundle, data):
        typer.echo(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.found}")
        failed += [] if check.passed else [check.name]
    if failed:
        raise VsslError(f"{bundle}: failed {', '.join(failed)}")

"""`vssl export`."""

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

"""`vssl export`, `vssl calibrate`, `vssl info` and `vssl verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vssl.cli import echo

if TYPE_CHECKING:
    from vssl.bundle.manifest import Precision
    from vssl_export.bundle_writer import ExportOptions


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CHECKPOINT|BUNDLE",
            help="A finished run, or RUN/checkpoints/NAME.pt; a bundle, with --triton.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The bundle to write: a folder, or a file ending in .zip.")] = None,
    precision: Annotated[
        str, typer.Option(help="Precisions of the model, of fp32, fp16 and int8, separated by commas; fp32 always is.")
    ] = "fp32",
    data: Annotated[
        str | None, typer.Option(help="Images to calibrate and judge them on: folder, .zip, or archive.zip::folder.")
    ] = None,
    tensorrt: Annotated[bool, typer.Option("--tensorrt", help="Build TensorRT plans too, for the GPU here.")] = False,
    features: Annotated[
        bool, typer.Option("--features", help="Give the backbone's features as a fourth output.")
    ] = False,
    half_weights: Annotated[
        bool, typer.Option("--half-weights", help="Store weights as float16: half the size, still float32 arithmetic.")
    ] = False,
    torch: Annotated[
        Path | None, typer.Option(help="File for the backbone's weights alone, safetensors under timm's names.")
    ] = None,
    triton: Annotated[Path | None, typer.Option(help="The Triton model repository to write or extend.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="The Triton repository is for GPUs, through TensorRT.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model; by default that of --out, or the run's.")] = None,
    model_version: Annotated[str | None, typer.Option(help="Version of the model, 1 by default.")] = None,
    card: Annotated[Path | None, typer.Option(help="Text for people who meet the model; `vssl info` shows it.")] = None,
) -> None:
    """Turn a run into a bundle (an ONNX file checked against torch, and its manifest); either into Triton's models."""
    from tempfile import TemporaryDirectory

    from vssl.bundle.default import located
    from vssl.bundle.manifest import MANIFEST
    from vssl.bundle.reading import open_bundle
    from vssl.errors import UsageError
    from vssl_export.triton.repository import write_repository

    if out is None and triton is None and torch is None:
        raise UsageError("name what to write: --out BUNDLE, --triton DIR or --torch FILE, or several of them")
    if gpu and triton is None:
        raise UsageError("--gpu is about the Triton repository: name one with --triton DIR")
    source = located(source)
    with TemporaryDirectory() as scratch:
        bundle = source
        if source.suffix == ".zip" or (source / MANIFEST).exists():
            ours = (out, torch, name, model_version, data, card, precision != "fp32", tensorrt, features, half_weights)
            if any(ours):
                raise UsageError(f"{source} is a bundle: of the options, only --triton and --gpu are for bundles too")
        elif out is not None or triton is not None:
            from vssl_export.bundle_writer import ExportOptions

            bundle = out or Path(scratch, "bundle")
            label = name or (out or _run_of(source)).resolve().stem
            options = ExportOptions(_precisions(precision), data, tensorrt, features, half_weights, card)
            message = _export_run(source, bundle, label, model_version or "1", options)
            echo(message + (f"; next: vssl serve {out}" if out else ""), err=True)
        if triton is not None:
            models = write_repository(open_bundle(bundle), triton, gpu)
            echo(f"vssl: {triton} holds {', '.join(models)}; next: tritonserver --model-repository={triton}", err=True)
        if torch is not None:
            from vssl_export.weights import write_weights

            echo(f"vssl: {torch} holds the weights of {write_weights(source, torch)}", err=True)


def _run_of(source: Path) -> Path:
    """The run that a checkpoint lies in, or the run itself."""
    return source.resolve().parents[1] if source.is_file() else source


def _export_run(source: Path, bundle: Path, name: str, release: str, options: "ExportOptions") -> str:
    from vssl_export.bundle_writer import export_run
    from vssl_export.checking.description import checkpoint
    from vssl_export.checking.limits import worth_telling

    manifest = export_run(source, bundle, name, release, options)
    parity = manifest.models["fp32"].parity
    for precision, model in manifest.models.items():
        told = None if model.difference is None else worth_telling(precision, model.difference)
        if told is not None:
            echo(f"vssl: {told}", err=True)
    if manifest.provenance.checkpoint is not None:
        echo(f"vssl: checkpoint {checkpoint(manifest.provenance)}", err=True)
    return (
        f"vssl: {manifest.name} {manifest.version}; ONNX Runtime against torch on {parity.images} images: "
        f"largest difference {parity.embedding:.1g} (embedding), {parity.log_variance:.1g} (log variance), "
        f"{parity.uncertainty:.1g} (uncertainty)"
    )


def _precisions(text: str) -> "list[Precision]":
    from typing import get_args

    from vssl.bundle.manifest import Precision
    from vssl.errors import UsageError

    known: tuple[Precision, ...] = get_args(Precision)
    wanted = text.split(",")
    for name in wanted:
        if name not in known:
            raise UsageError(f"--precision {text}: {name!r} is not one of {', '.join(known)}")
    return [name for name in known if name in wanted and name != "fp32"]


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="The bundle to write again: a folder, or a .zip of it.")],
    data: Annotated[str, typer.Option(help="Images it was not trained on: folder, .zip, or archive.zip::folder.")],
    labels: Annotated[
        bool, typer.Option("--labels", help="Their top folders are labels: fit what a nearest neighbour is worth too.")
    ] = False,
) -> None:
    """Measure a bundle's uncertainty on reference images, so that answers can say percentile, flags and confidence."""
    from vssl_export.checking.calibration import calibrate as run
    from vssl_export.checking.description import describe_calibration

    manifest = run(bundle, data, labels)
    echo("\n".join(f"{name:<15} {value}" for name, value in describe_calibration(manifest)))
    echo(f"vssl: {bundle} is calibrated, its id is {manifest.id[:12]} now; next: vssl serve {bundle}", err=True)


def info(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle: a folder, a .zip, builtin:tiny; without one, the default model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest, with the path, as JSON.")] = False,
) -> None:
    """Say what is in a bundle, after checking that no byte of it has changed."""
    import json

    from vssl.bundle.default import default_bundle
    from vssl.bundle.reading import open_bundle
    from vssl_export.checking.description import CARD, describe

    opened = open_bundle(bundle or default_bundle())
    path, manifest = str(opened.location.resolve()), opened.manifest
    if as_json:
        about = {"path": path, "encoder_id": manifest.encoder_id}
        echo(json.dumps({**about, **manifest.model_dump(mode="json")}, indent=2))
        return
    echo(f"{'path':<15} {path}\n{describe(manifest)}")
    if CARD in manifest.files:
        echo(f"\n{opened.read(CARD).decode(errors='replace')}")


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle: a folder, or a .zip of it.")],
    data: Annotated[
        str | None, typer.Option(help="Images to compare precisions on: folder, .zip, or archive.zip::folder.")
    ] = None,
) -> None:
    """Check a bundle on this machine: hashes, preprocessing, signature, outputs, parity of precisions."""
    from vssl.errors import VsslError
    from vssl_export.checking.verification import verify as checks

    failed = []
    for check in checks(bundle, data):
        echo(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.found}")
        failed += [] if check.passed else [check.name]
    if failed:
        raise VsslError(f"{bundle}: failed {', '.join(failed)}")

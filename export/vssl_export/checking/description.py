"""A manifest for a person to read."""

from collections.abc import Iterator

from vssl.bundle.manifest import Difference, Manifest, ModelFile, Provenance
from vssl.images.decoding import Preprocessing
from vssl_export.checking.limits import worth_telling

CARD = "README.md"
"""The file of a bundle that tells people about the model: what it is for, what it was trained on, what it is bad at."""


def describe(manifest: Manifest) -> str:
    """Several lines of `field   value`, and a table of what each precision costs and brings, where it was measured."""
    lines = [f"{name:<15} {value}".rstrip() for name, value in _lines(manifest)]
    return "\n".join([*lines, *_table(manifest)])


def checkpoint(origin: Provenance) -> str:
    """How far the run had come at the checkpoint, and what that means; empty for the end of a finished one."""
    reached = origin.checkpoint
    if reached is None:
        return ""
    fresh = reached.phase == "encoder" and not origin.recipe.get("variance", {}).get("joint")
    untrained = "; no variance head yet: every image has the same uncertainty" if fresh else ""
    return f"of the {reached.phase} phase, step {reached.step:,} of {reached.steps:,}{untrained}"


def _lines(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "model", f"{manifest.name} {manifest.version}"
    yield "id", manifest.id
    yield "encoder id", manifest.encoder_id
    yield "input", _input(manifest.preprocessing)
    if manifest.backbone is not None:
        from_it = manifest.backbone
        yield "backbone", f"{from_it.architecture} from {from_it.source}, licence {from_it.licence or 'unknown'}"
    further = "" if manifest.outputs.features is None else f"; features of {manifest.outputs.features} numbers"
    yield (
        "output",
        f"embedding and variance of {manifest.outputs.dimension} numbers; uncertainty: mean log variance{further}",
    )
    for precision, model in manifest.models.items():
        yield precision, _model(model)
    for plan in manifest.engines:
        yield (
            "TensorRT",
            (
                f"{plan.path}, of {plan.precision}, for TensorRT {plan.tensorrt} and compute capability "
                f"{plan.compute_capability}, batches {plan.batches[0]} to {plan.batches[2]}"
            ),
        )
    yield from describe_calibration(manifest)
    for name, figure in manifest.evaluation.items():
        yield name, f"{figure:.4g}"
    origin = manifest.provenance
    yield "created", f"{origin.created}, seed {origin.seed}, commit {origin.git_commit or 'unknown'}"
    if origin.checkpoint is not None:
        yield "checkpoint", checkpoint(origin)
    yield "recipe", str(origin.recipe.get("name", "unknown"))
    yield "data", ", ".join(f"{key} {value}" for key, value in origin.data.items()) or "unknown"
    yield "made with", ", ".join(f"{package} {version}" for package, version in origin.versions.items()) or "unknown"


def describe_calibration(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Pairs of field and value; one pair where there is no calibration."""
    found = manifest.calibration
    if found is None:
        yield (
            "calibration",
            "none: answers have no percentile, flags, confidence or familiarity; `vssl calibrate` adds them",
        )
        return
    images = found.reference
    of_classes = "" if images.classes is None else f" of {images.classes} classes"
    yield "calibration", f"on {images.images:,} images{of_classes}, {found.created}"
    odd = "" if found.novelty is None else f" or a novelty of {found.novelty.threshold:.4g}"
    yield "", f"degraded over {found.acceptance.degraded:.4g} (95 %), ood over {found.acceptance.ood:.4g}{odd} (99 %)"
    for kind, severities in found.corruptions.items():
        yield "", f"AUROC of {kind}, severity 1 to 5: {' '.join(f'{value:.3f}' for value in severities)}"
    if found.familiarity is not None:
        yield "", f"familiarity by {found.familiarity.images:,} reference vectors, the {found.familiarity.k} nearest"
    if found.confidence is not None:
        yield "", f"confidence: AUROC {found.confidence.auroc:.3f}, ECE {found.confidence.ece:.3f}"
    if found.gallery is not None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in found.gallery.measured.items())
        yield "", f"p_correct: {figures}"


def _input(how: Preprocessing) -> str:
    parts = {
        "crop": f"the centred square, {how.crop:g} of the shorter side",
        "crop-round": f"the centred square, {how.crop:g} of the shorter side in whole pixels",
        "crop-floor": f"the centred square, {how.crop:g} of the shorter side in whole pixels, rounded down",
        "squash": f"the whole image squashed to a square, {how.crop:g} of each side",
        "pad": f"the whole image padded to a square, {how.crop:g} of the longer side",
    }
    smaller = "" if how.decoder == "exact" else f", decoder {how.decoder}"
    return f"{how.size} × {how.size} pixels of {parts[how.fit]}, {how.interpolation}{smaller}"


def _model(model: ModelFile) -> str:
    versions = "" if model.opset is None else f", opset {model.opset}, IR {model.ir_version}"
    off = model.parity
    return (
        f"{model.path}{versions}; from torch on {off.images} images at most "
        f"{off.embedding:.1g} (embedding), {off.log_variance:.1g} (log variance), limit {off.limit:g}"
    )


def _table(manifest: Manifest) -> Iterator[str]:
    models = manifest.models.items()
    batches = list(dict.fromkeys(batch for _, model in models for batch in model.images_per_second))
    judged = {precision: model.difference.images for precision, model in models if model.difference is not None}
    if not batches and not judged:
        return
    rows = [
        [
            "",
            "",
            "|Δ| embedding",
            "",
            "|Δ| variance",
            "",
            "mean cosine",
            "",
            "change",
            "",
            *["images/s at batch"][: len(batches)],
        ],
        ["precision", "MiB", "max", "mean", "max", "mean", "raw", "centred", "kNN", "R@1", *batches],
    ]
    for precision, model in models:
        speeds = [_speed(model.images_per_second.get(batch)) for batch in batches]
        size = f"{manifest.files[model.path].bytes / 2**20:.2f}"
        rows.append([precision, size, *_costs(model.difference), *speeds])
    rows = [row + [""] * (len(rows[1]) - len(row)) for row in rows]
    widths = [max(len(row[i]) for row in rows[1:]) for i in range(len(rows[1]))]
    yield ""
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    against = ", ".join(
        f"{precision} against {'torch' if precision == 'fp32' else 'fp32'} on {images:,} images"
        for precision, images in judged.items()
    )
    yield f"{against}; images/s on the machine that exported" if batches else against
    for precision, model in models:
        told = None if model.difference is None else worth_telling(precision, model.difference)
        if told is not None:
            yield told


def _costs(off: Difference | None) -> list[str]:
    """Cells of a row: |Δ| of mean and of variance, cosines, changes of kNN and R@1."""
    if off is None:
        return [""] * 8
    sizes = [off.embedding.max, off.embedding.mean, off.variance.max, off.variance.mean]
    changes = ["" if change is None else f"{change:+.4f}" for change in (off.knn, off.recall_at_1)]
    centred = "" if off.centred_cosine is None else f"{off.centred_cosine:.6f}"
    return [*(f"{size:.1e}" for size in sizes), f"{off.cosine_mean:.6f}", centred, *changes]


def _speed(images: float | None) -> str:
    if images is None:
        return ""
    return f"{images:,.0f}" if images >= 100 else f"{images:.3g}"

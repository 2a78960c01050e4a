"""A manifest for a person to read."""

from collections.abc import Iterator

from vssl.manifest import Manifest, ModelFile, Provenance


def describe(manifest: Manifest) -> str:
    """Several lines of `field   value`."""
    return "\n".join(f"{name:<15} {value}".rstrip() for name, value in _lines(manifest))


def checkpoint(origin: Provenance) -> str:
    """How far an unfinished run had come, and what that means; empty for a finished one."""
    reached = origin.checkpoint
    if reached is None:
        return ""
    fresh = reached.phase == "encoder" and not origin.recipe.get("variance", {}).get("joint")
    untrained = "; no variance head yet: every image has the same uncertainty" if fresh else ""
    return f"unfinished run, {reached.phase} phase, step {reached.step:,} of {reached.steps:,}{untrained}"


def _lines(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "model", f"{manifest.name} {manifest.version}"
    yield "id", manifest.id
    how = manifest.preprocessing
    yield (
        "input",
        f"{how.size} × {how.size} pixels of the centred square, {how.crop:g} of the shorter side, {how.interpolation}",
    )
    further = "" if manifest.outputs.features is None else f"; features of {manifest.outputs.features} numbers"
    yield (
        "output",
        f"embedding and variance of {manifest.outputs.dimension} numbers; uncertainty: mean log variance{further}",
    )
    for precision, model in manifest.models.items():
        yield precision, _model(model, manifest.files[model.path].bytes)
        yield from (("", line) for line in _measured(model))
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
        yield "calibration", "none: answers have no percentile, flags or confidence; `vssl calibrate` adds them"
        return
    images = found.reference
    of_classes = "" if images.classes is None else f" of {images.classes} classes"
    yield "calibration", f"on {images.images:,} images{of_classes}, {found.created}"
    yield "", f"degraded over {found.acceptance.degraded:.4g} (95 %), ood over {found.acceptance.ood:.4g} (99 %)"
    for kind, severities in found.corruptions.items():
        yield "", f"AUROC of {kind}, severity 1 to 5: {' '.join(f'{value:.3f}' for value in severities)}"
    if found.confidence is not None:
        yield "", f"confidence: AUROC {found.confidence.auroc:.3f}, ECE {found.confidence.ece:.3f}"
    if found.gallery is not None:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in found.gallery.measured.items())
        yield "", f"p_correct: {figures}"


def _model(model: ModelFile, size: int) -> str:
    versions = "" if model.opset is None else f", opset {model.opset}, IR {model.ir_version}"
    off = model.parity
    return (
        f"{model.path}, {size / 2**20:.2f} MiB{versions}; from torch on {off.images} images at most "
        f"{off.embedding:.1g} (embedding), {off.log_variance:.1g} (log variance), limit {off.limit:g}"
    )


def _measured(model: ModelFile) -> Iterator[str]:
    if model.difference is not None:
        off = model.difference
        costs = "".join(
            f", {name} {change:+.4f}"
            for name, change in (("kNN", off.knn), ("R@1", off.recall_at_1))
            if change is not None
        )
        yield f"against fp32 on {off.images} images: mean cosine {off.cosine_mean:.5f}{costs}"
    if model.images_per_second:
        speeds = ", ".join(f"{speed:,.0f} at batch {batch}" for batch, speed in model.images_per_second.items())
        yield f"images/s where it was exported: {speeds}"

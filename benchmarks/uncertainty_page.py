"""The pictures and figures of docs/uncertainty.md, from `builtin:tiny` or another bundle.

The gallery's labels calibrate, the queries only judge. Pictures are shown: name images that may be.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.plot import plot
from vssl.bundle.reading import open_bundle
from vssl.engine import Embeddings, Engine
from vssl.images.degradations import CORRUPTIONS, degrade
from vssl.images.strengths import SEVERITIES
from vssl.measures.ranking import auroc
from vssl.measures.uncertainty import bootstrap, calibration_error, error_cut, r_auroc, reliability, risk_coverage
from vssl.sources.in_memory import ImageSet, load_images
from vssl.sources.opening import open_source
from vssl.uncertainty.conformal import coverage_and_size, coverage_interval
from vssl.uncertainty.fitting import fit_gallery
from vssl.uncertainty.matches import apply_gallery_calibration, match

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo" / "fashion-mnist.zip"
OUT = ROOT / "docs" / "uncertainty"
SHOWN, SCALE = 16, 2

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="instead of builtin:tiny")
    parser.add_argument("--gallery", default=f"{DEMO}::train")
    parser.add_argument("--queries", default=f"{DEMO}::test")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle or "builtin:tiny")
    engine = Engine(bundle)
    gallery, queries = (
        load_images(open_source(location), bundle.manifest.preprocessing)
        for location in (arguments.gallery, arguments.queries)
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    answers = engine(gallery.pixels), engine(queries.pixels)
    rows = matched(arguments.out, gallery, queries, *answers)
    rows += degraded(arguments.out, engine, queries, answers[1], answers[0].uncertainty)
    strips(arguments.out, queries, answers[1])
    recipe = bundle.manifest.provenance.recipe.get("name", "unknown")
    head = (
        "What the pictures of [Uncertainty](../uncertainty.md) show, in numbers.\n\n"
        f"Recipe `{recipe}`; {len(gallery):,} images in the gallery, {len(queries):,} queries; intervals of 95 %.\n\n"
    )
    text = "".join(f"| {name} | {figure} |\n" for name, figure in rows)
    (arguments.out / "figures.md").write_text(f"# Figures\n\n{head}| | |\n|---|---|\n{text}")
    print(head + text)


def matched(
    out: Path, gallery: ImageSet, queries: ImageSet, known: Embeddings, answered: Embeddings
) -> list[tuple[str, str]]:
    """Is the nearest neighbour right: what each tier knows of it."""
    assert gallery.labels is not None
    assert queries.labels is not None
    classes = len(gallery.classes)
    calibration = fit_gallery(known.embedding, known.uncertainty, gallery.labels, classes)
    matches = match(answered.embedding, answered.uncertainty, known.embedding, gallery.labels, classes)
    tie_break = np.random.default_rng(0).random(len(queries))
    found = apply_gallery_calibration(calibration, matches, "0.1", "0.05", tie_break)
    wrong: Mask = matches.label != queries.labels
    bins = reliability(found.p_correct, ~wrong, 10)
    plot(
        out / "reliability.svg",
        f"Matches by their p_correct, ten bins of {len(queries) // 10}",
        ("p_correct", "part that is right"),
        {"p_correct": bins[:, :2], "(as it should be)": np.array([[0, 0], [1, 1]])},
        (0, 1),
        dots=True,
    )
    tiers: dict[str, Floats] = {
        "1: the image alone": answered.uncertainty,
        "2: distance to it": -matches.evidence[:, 1],
        "3: p_correct": -found.p_correct,
        "(best possible)": wrong.astype(np.float64),
    }
    places = np.linspace(len(wrong) // 20, len(wrong), 96).astype(int)
    curves = {
        name: np.column_stack([places / len(wrong), risk_coverage(values, wrong)[places] / places])
        for name, values in tiers.items()
    }
    top = float(np.ceil(max(curve[:, 1].max() for curve in curves.values()) * 10) / 10)
    plot(
        out / "risk_coverage.svg",
        "Wrong neighbours among the most certain images",
        ("coverage", "part that is wrong"),
        curves,
        (0, top),
        dots=False,
    )
    rows = [
        (f"tier {name}: AUROC of wrong against right neighbours", spread(values, wrong))
        for name, values in list(tiers.items())[:3]
    ]
    coverage, size = coverage_and_size(found.sets, queries.labels)
    low, high = coverage_interval(len(gallery) * 3 // 4, len(queries), 0.1)
    actions = np.array(found.actions)
    kept = actions == "accept"
    return [
        *rows,
        ("tier 3: ECE", f"{calibration_error(found.p_correct, ~wrong, 10):.3f}"),
        ("tier 3: errors cut at 80 % coverage", f"{error_cut(-found.p_correct, wrong):.0%}"),
        ("conformal sets at α = .1: coverage", f"{coverage:.3f} (must be in {low:.3f} … {high:.3f}), size {size:.2f}"),
        ("accepted at risk .05", f"{kept.mean():.0%}, of which wrong {wrong[kept].mean():.1%}"),
        ("all: wrong", f"{wrong.mean():.1%}"),
    ]


def degraded(
    out: Path, engine: Engine, queries: ImageSet, clean: Embeddings, reference: Floats
) -> list[tuple[str, str]]:
    """How the uncertainty rises with each degradation."""
    ordered = np.sort(reference)
    lines, rows = {}, []
    for kind in CORRUPTIONS:
        values = [clean.uncertainty]
        values += [engine(degrade(queries.pixels, kind, severity, 0)).uncertainty for severity in SEVERITIES]
        percentiles = [100 * np.searchsorted(ordered, found, side="right").mean() / len(ordered) for found in values]
        lines[kind.replace("_", " ")] = np.column_stack([np.arange(6), percentiles])
        figures = ", ".join(f"{auroc(clean.uncertainty, found):.2f}" for found in values[1:])
        rows.append((f"AUROC of {kind.replace('_', ' ')}, severity 1 to 5", figures))
    plot(
        out / "severity.svg",
        "Mean percentile of the uncertainty among clean images",
        ("severity (0: clean)", "percentile"),
        lines,
        (40, 100),
        dots=True,
    )
    return rows


def strips(out: Path, queries: ImageSet, answer: Embeddings) -> None:
    """The most certain images in the first row, the least certain in the second."""
    order = np.argsort(answer.uncertainty)
    chosen = queries.pixels[np.concatenate([order[:SHOWN], order[::-1][:SHOWN]])]
    size = chosen.shape[1]
    grid = chosen.reshape(2, SHOWN, size, size, 3).transpose(0, 2, 1, 3, 4).reshape(2 * size, SHOWN * size, 3)
    picture = Image.fromarray(grid).resize((grid.shape[1] * SCALE, grid.shape[0] * SCALE), Image.Resampling.NEAREST)
    picture.save(out / "certain.png", optimize=True)


def spread(values: Floats, wrong: Mask) -> str:
    """An R-AUROC with its interval."""
    low, high = bootstrap(r_auroc, values, wrong)
    return f"{r_auroc(values, wrong):.3f} ({low:.3f} … {high:.3f})"


if __name__ == "__main__":
    main()

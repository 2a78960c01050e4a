"""`report.html` at the end of a run: one self-contained page, with no script and nothing fetched from elsewhere."""

import base64
import html
import io
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vssl.engine import Embeddings
from vssl.files import atomic_write
from vssl.measures import normalised
from vssl_training.run import Run

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

SHOWN, QUERIES, NEIGHBOURS, EXTREMES = 2_000, 10, 8, 20
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#79706e")
WIDTH, HEIGHT = 340, 200

PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>VSSL run $name</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1e; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
  h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem } p, td { color: #555 }
  .row { display: flex; flex-wrap: wrap; gap: .4rem; margin: .4rem 0 } .gap { width: .6rem }
  figure { margin: 0; text-align: center } figcaption { font-size: 11px; color: #777 }
  img { width: 56px; height: 56px; image-rendering: pixelated; border-radius: 4px }
  .query img { outline: 3px solid #1c1c1e } svg { background: #fafafa; border-radius: 6px }
  text { font: 11px sans-serif }
</style></head><body>
<h1>Run $name</h1>
<p>$facts</p>
<h2>Curves</h2><div class="row">$curves</div>
<h2>Map of $count embeddings</h2>
<p>The two main directions of the embeddings; on the left coloured by $classes, on the right by uncertainty (dark is
certain).</p>
<div class="row">$maps</div>
<h2>Nearest neighbours</h2>$neighbours
<h2>Most certain</h2><div class="row">$certain</div>
<h2>Least certain</h2><div class="row">$uncertain</div>
</body></html>
""")


def write_report(run: Run, pixels: Pixels, answer: Embeddings, labels: Sequence[str] | None) -> None:
    """Write the page from the run's metrics and the embeddings of some of its images.

    Args:
        run: a run whose metrics are complete.
        pixels: uint8 [N, S, S, 3].
        answer: the embedder's answer for them.
        labels: class name of each image, if there are any.
    """
    record, metrics = run.record(), run.metrics()
    facts = (
        f"Recipe {record.recipe.name}, seed {record.seed}, {record.data.images:,} images, "
        f"{record.schedule.encoder:,} + {record.schedule.variance:,} steps."
    )
    order = np.argsort(answer.uncertainty)
    page = PAGE.substitute(
        name=html.escape(run.path.resolve().name),
        facts=html.escape(facts),
        curves="".join(curves(metrics)),
        count=f"{len(pixels):,}",
        classes="class" if labels else "nothing (there are no classes)",
        maps="".join(maps(answer, labels)),
        neighbours=neighbours(pixels, answer.embedding),
        certain=strip(pixels, answer.uncertainty, order[:EXTREMES]),
        uncertain=strip(pixels, answer.uncertainty, order[::-1][:EXTREMES]),
    )
    with atomic_write(run.report_path) as file:
        file.write(page.encode())


def curves(metrics: list[dict[str, Any]]) -> list[str]:
    """One chart for each figure of each phase."""
    charts = []
    for phase in ("encoder", "variance"):
        lines = [line for line in metrics if line["phase"] == phase]
        names = dict.fromkeys(name for line in lines for name in line if name not in ("phase", "step"))
        for name in names:
            points = [(line["step"], line[name]) for line in lines if name in line]
            charts.append(chart(f"{phase}: {name}", np.array(points, np.float64)))
    return charts


def chart(title: str, points: Floats) -> str:
    """A line through points [n, 2], with its last value in the title, as SVG."""
    placed = fitted(points, WIDTH, HEIGHT, 28)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    span = f"{points[:, 1].min():.3g} to {points[:, 1].max():.3g} over {points[-1, 0]:,.0f} steps"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}"><text x="10" y="17">{html.escape(title)} {points[-1, 1]:.4g}</text>'
        f'<polyline points="{path}" fill="none" stroke="{COLOURS[0]}" stroke-width="1.5"/>'
        f'<text x="10" y="{HEIGHT - 8}" fill="#777">{span}</text></svg>'
    )


def maps(answer: Embeddings, labels: Sequence[str] | None) -> list[str]:
    """The embeddings on their two main directions, coloured by class and by uncertainty."""
    unit = normalised(answer.embedding)
    centred = unit - unit.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    placed = fitted(centred @ directions[:2].T, 520, 420, 12)
    names = sorted(set(labels or ()))
    by_class = [COLOURS[names.index(label) % len(COLOURS)] for label in labels] if labels else [COLOURS[-1]] * len(unit)
    rank = np.argsort(np.argsort(answer.uncertainty)) / max(1, len(unit) - 1)
    by_uncertainty = [f"hsl({45 - 5 * part:.0f} 90% {18 + 62 * part:.0f}%)" for part in rank]
    legend = "".join(
        f'<text x="8" y="{16 + 14 * i}" fill="{COLOURS[i % len(COLOURS)]}">{html.escape(name)}</text>'
        for i, name in enumerate(names[:20])
    )
    return [scatter(placed, by_class, legend), scatter(placed, by_uncertainty, "")]


def scatter(placed: Floats, colours: Sequence[str], legend: str) -> str:
    """Dots at [n, 2], as SVG."""
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>'
        for (x, y), colour in zip(placed, colours, strict=True)
    )
    return f'<svg width="520" height="420">{dots}{legend}</svg>'


def fitted(points: Floats, width: int, height: int, margin: int) -> Floats:
    """Points [n, 2] scaled into a picture, y upwards."""
    low, high = points.min(0), points.max(0)
    share = (points - low) / np.where(high > low, high - low, 1)
    return np.stack(
        [margin + share[:, 0] * (width - 2 * margin), height - margin - share[:, 1] * (height - 2 * margin)], 1
    )


def neighbours(pixels: Pixels, embedding: npt.NDArray[np.float32]) -> str:
    """Rows of a query and the images nearest to it by cosine similarity."""
    similarity = embedding @ embedding.T
    np.fill_diagonal(similarity, -np.inf)
    rows = []
    for query in np.linspace(0, len(pixels) - 1, min(QUERIES, len(pixels))).astype(int):
        nearest = np.argsort(-similarity[query])[: min(NEIGHBOURS, len(pixels) - 1)]
        found = "".join(picture(pixels[i], f"{similarity[query, i]:.2f}") for i in nearest)
        rows.append(f'<div class="row">{picture(pixels[query], "query", "query")}<div class="gap"></div>{found}</div>')
    return "".join(rows)


def strip(pixels: Pixels, uncertainty: npt.NDArray[np.float32], rows: npt.NDArray[np.intp]) -> str:
    """Pictures of some rows with their uncertainty."""
    return "".join(picture(pixels[row], f"{uncertainty[row]:.2f}") for row in rows)


def picture(image: Pixels, caption: str, kind: str = "") -> str:
    """One image with its bytes in the page."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    source = f'<img src="data:image/png;base64,{data}" alt="">'
    return f'<figure class="{kind}">{source}<figcaption>{html.escape(caption)}</figcaption></figure>'

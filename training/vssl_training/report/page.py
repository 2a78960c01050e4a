"""`report.html` at the end of a run: one self-contained page, with no script and nothing fetched from elsewhere."""

import html
import string
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.arrays import Pixels
from vssl.engine import Embeddings
from vssl.files import atomic_write
from vssl.search.nearest import normalised
from vssl_training.report.drawing import COLOURS, chart, class_legend, number, on_scale, picture, scale_legend, scatter
from vssl_training.run.folder import Run
from vssl_training.run.record import RunRecord

SHOWN, QUERIES, NEIGHBOURS, EXTREMES = 2_000, 10, 12, 28
SMALL = 64
"""Images up to this side are shown as squares of pixels, not blurred."""

PHASES = {"encoder": "First phase: the encoder", "variance": "Second phase: its variance"}
NAMES = {
    "knn": "kNN accuracy",
    "rank": "effective rank",
    "rankme": "RankMe",
    "std": "√D · std of the mean",
    "loss": "loss",
    "agreement": "agreement of the views",
    "images_per_second": "images per second",
    "residual": "squared error of degraded views",
    "spread": "spread of log σ²",
    "rho": "rank correlation ρ(σ², error)",
    "clamped": "part of log σ² at the clamp's ends",
    "probe": "linear probe accuracy",
}
"""What figures are called in the page, in its order; others follow under the names that they are logged by."""

KNN_OF_TRAINING = "kNN accuracy among training images"
"""What `knn` is called where no other images judge."""


def write_report(
    run: Run, pixels: Pixels, answer: Embeddings, labels: Sequence[str] | None, held_out: bool = False
) -> None:
    """Write the page from the run's metrics and the embeddings of some of its images.

    Args:
        run: a run whose metrics are complete.
        pixels: uint8 [N, S, S, 3].
        answer: the embedder's answer for them.
        labels: class name of each image, if there are any.
        held_out: whether the figures were judged by images that are not trained on.
    """
    names = NAMES if held_out else NAMES | {"knn": KNN_OF_TRAINING}
    record, metrics = run.record(), run.metrics()
    order = np.argsort(answer.uncertainty)
    facts = tiles(record, metrics, names)
    places, explained = main_directions(answer.embedding)
    page = string.Template((files("vssl_training.report") / "report_page.html").read_text()).substitute(
        name=html.escape(run.path.resolve().name),
        facts=html.escape(f"Recipe {record.recipe.name}, seed {record.seed}, trained on {record.data.location}"),
        tiles="".join(f'<div class="card"><b>{value}</b><span>{name}</span></div>' for name, value in facts),
        curves="".join(curves(metrics, names)),
        rendering="pixelated" if pixels.shape[1] <= SMALL else "auto",
        count=f"{len(pixels):,}",
        explained=f"{100 * explained:.0f}",
        coloured="Coloured by class and by uncertainty." if labels else "Coloured by uncertainty.",
        maps="".join(f'<div class="card">{drawn}</div>' for drawn in maps(places, answer, labels)),
        framed="Green frames: the class of the query; red: another. No label was used in training." if labels else "",
        neighbours=neighbours(pixels, answer.embedding, labels),
        certain=strip(pixels, answer, labels, order[:EXTREMES]),
        uncertain=strip(pixels, answer, labels, order[::-1][:EXTREMES]),
        recipe=html.escape(run.record_path.read_text()),
    )
    with atomic_write(run.report_path) as file:
        file.write(page.encode())


def tiles(record: RunRecord, metrics: list[dict[str, Any]], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the run was and where it ended: (name, value)."""
    shown = [
        ("images", f"{record.data.images:,}"),
        ("steps of the encoder", f"{record.schedule.encoder:,}"),
        ("steps of the variance", f"{record.schedule.variance:,}"),
    ]
    encoder = [line for line in metrics if line["phase"] == "encoder"]
    for name in ("knn", "probe", "rank", "std", "images_per_second"):
        values = [line[name] for line in encoder if name in line]
        if values:
            shown.append((names[name], number(values[-1])))
    return shown


def curves(metrics: list[dict[str, Any]], titles: Mapping[str, str]) -> list[str]:
    """A heading for each phase, and one chart for each of its figures."""
    parts = []
    for phase, heading in PHASES.items():
        lines = [line for line in metrics if line["phase"] == phase]
        found = dict.fromkeys(name for line in lines for name in line if name not in ("phase", "step"))
        names = [*(name for name in NAMES if name in found), *(name for name in found if name not in NAMES)]
        series = {name: [(line["step"], line[name]) for line in lines if name in line] for name in names}
        charts = [chart(titles.get(name, name), np.array(points, float)) for name, points in series.items()]
        if charts:
            parts.append(f'<h2>{heading}</h2><div class="charts">{"".join(charts)}</div>')
    return parts


def main_directions(embedding: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """Embeddings [N, D] on the two directions in which they vary most [N, 2], and the part of the variance there."""
    unit = normalised(embedding)
    centred = unit - unit.mean(0)
    _, strengths, directions = np.linalg.svd(centred, full_matrices=False)
    explained = float((strengths[:2] ** 2).sum() / max((strengths**2).sum(), 1e-12))
    return centred @ directions[:2].T, explained


def maps(places: npt.NDArray[np.float32], answer: Embeddings, labels: Sequence[str] | None) -> list[str]:
    """Dots coloured by class, where there are classes, and by the rank of their uncertainty."""
    drawn = []
    if labels is not None:
        names = sorted(set(labels))
        colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
        drawn.append(scatter(places, [colours[label] for label in labels]) + class_legend(names))
    rank = np.argsort(np.argsort(answer.uncertainty)) / max(1, len(places) - 1)
    legend = scale_legend(answer.uncertainty.min(), answer.uncertainty.max())
    return [*drawn, scatter(places, [on_scale(share) for share in rank]) + legend]


def neighbours(pixels: Pixels, embedding: npt.NDArray[np.float32], labels: Sequence[str] | None) -> str:
    """Rows of a query and the images nearest to it by cosine similarity."""
    similarity = embedding @ embedding.T
    np.fill_diagonal(similarity, -np.inf)
    rows = []
    for query in np.linspace(0, len(pixels) - 1, min(QUERIES, len(pixels))).astype(int):
        found = [picture(pixels[query], labels[query] if labels else "query", "query")]
        for index in np.argsort(-similarity[query])[: min(NEIGHBOURS, len(pixels) - 1)]:
            kind = "" if labels is None else "same" if labels[index] == labels[query] else "other"
            found.append(picture(pixels[index], f"{similarity[query, index]:.2f}", kind))
        rows.append(f'<div class="row strip">{"".join(found)}</div>')
    return "".join(rows)


def strip(pixels: Pixels, answer: Embeddings, labels: Sequence[str] | None, rows: npt.NDArray[np.intp]) -> str:
    """Pictures of some rows with their uncertainty, and their class where there is one."""
    captions = [f"{answer.uncertainty[row]:.2f}" + (f" {labels[row]}" if labels else "") for row in rows]
    return "".join(picture(pixels[row], caption) for row, caption in zip(rows, captions, strict=True))

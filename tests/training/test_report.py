"""`report.html`: whole, well-formed, self-contained, and showing what the run measured."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from vssl_training.report import chart, fitted
from vssl_training.run import Run


def test_the_page_of_a_run_holds_every_part_and_fetches_nothing(finished_run: Path) -> None:
    page = Run(finished_run).report_path.read_text()
    for title in ("Curves", "Map of 40 embeddings", "Nearest neighbours", "Most certain", "Least certain"):
        assert f"<h2>{title}" in page
    for name in ("encoder: loss", "encoder: knn", "encoder: rank", "variance: residual"):
        assert name in page
    assert "bag</text>" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<script" not in page


def test_every_picture_and_chart_is_well_formed(finished_run: Path) -> None:
    page = Run(finished_run).report_path.read_text()
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    scatters = [svg for svg in charts if "<circle" in svg]
    assert len(scatters) == 2
    for svg in charts:
        ET.fromstring(svg)
    assert all(len(ET.fromstring(svg).findall("circle")) == 40 for svg in scatters)


def test_a_chart_runs_from_left_to_right_and_upwards() -> None:
    points = np.array([[0.0, 1.0], [10.0, 3.0], [20.0, 2.0]])
    placed = fitted(points, 100, 50, 5)
    np.testing.assert_allclose(placed, [[5, 45], [50, 5], [95, 25]])
    assert ET.fromstring(chart("a < b", points)).find("polyline") is not None


def test_a_constant_figure_does_not_divide_by_zero() -> None:
    assert np.isfinite(fitted(np.array([[1.0, 2.0], [2.0, 2.0]]), 100, 50, 5)).all()

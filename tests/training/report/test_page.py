"""`report.html`: whole, well-formed, self-contained, and showing what the run measured."""

import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from vssl.engine import Embeddings
from vssl_training.report.drawing import chart, fitted, on_scale, picture
from vssl_training.report.page import KNN_OF_TRAINING, write_report
from vssl_training.run.folder import Run


def test_the_page_of_a_run_holds_every_part_and_fetches_nothing(finished_run: Path) -> None:
    page = Run(finished_run).report_path.read_text()
    for title in (
        "First phase",
        "Second phase",
        "Map of 40 embeddings",
        "Nearest neighbours",
        "Most certain",
        "Least certain",
    ):
        assert f"<h2>{title}" in page
    for name in ("loss", KNN_OF_TRAINING, "linear probe accuracy", "effective rank", "squared error of degraded views"):
        assert f"<span>{name}</span>" in page
    assert "bag</span>" in page
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
    assert ET.fromstring(chart("a < b", points)).find("svg/polyline") is not None


def test_a_run_without_labels_has_one_map_and_no_frames(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    run = Run(tmp_path / "run")
    rng = np.random.default_rng(0)
    answer = Embeddings(*(rng.normal(size=shape).astype(np.float32) for shape in ((3, 16), (3, 16), (3,))))
    write_report(run, rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8), answer, None)
    page = run.report_path.read_text()
    assert len([svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "<circle" in svg]) == 1
    assert 'class="same"' not in page
    assert KNN_OF_TRAINING in page
    write_report(run, rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8), answer, None, held_out=True)
    assert KNN_OF_TRAINING not in run.report_path.read_text()
    assert "$" not in page


def test_large_images_become_thumbnails() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    assert len(picture(noise, "")) < 40_000
    assert on_scale(0) == "#440154"
    assert on_scale(1) == "#fde725"


def test_a_constant_figure_does_not_divide_by_zero() -> None:
    assert np.isfinite(fitted(np.array([[1.0, 2.0], [2.0, 2.0]]), 100, 50, 5)).all()

"""The formulas of docs/capacity.md, against the rows of the benchmark of serving and the chart's defaults."""

import json
import math
import re
from typing import Any

import pytest
import yaml

from tests.paths import ROOT
from vssl_server.settings import Settings

PAGE = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "serving.json").read_text(encoding="utf-8"))
CORES = int(RESULTS["machine"].split(" cores")[0])
SECONDS = float(RESULTS["settings"]["seconds"])
ROWS = [
    row
    for row in RESULTS["rows"]
    if row["server"] == "vssl serve" and row.get("concurrency", 0) >= 4 and row["p99_ms"] < SECONDS * 250
]
"""Those with enough requests under way, of which few still waited when the clock was stopped."""


def name_of(row: dict[str, Any]) -> str:
    return f"{row['encoder_px']}px-{row['images_per_request']}-{row['concurrency']}"


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_rate_by_cpu_seconds(row: dict[str, Any]) -> None:
    """The load generator has its part of the cores."""
    most = CORES * 1e6 / (row["cpu_us"] + row["hey_cpu_us"])
    assert 0.8 < row["images_per_second"] / most < 1.1


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_littles_law(row: dict[str, Any]) -> None:
    under_way = row["images_per_second"] / row["images_per_request"] * row["p50_ms"] / 1000
    assert under_way == pytest.approx(row["concurrency"], rel=0.1)


def test_the_table_is_of_these_rows() -> None:
    rows = re.findall(r"^\| (\d+) px \| (\d+) \| (\d+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    found = {(r["encoder_px"], r["images_per_request"], r["concurrency"]): r["cpu_us"] / 1000 for r in ROWS}
    assert len(rows) == 3
    for size, images, concurrency, milliseconds in rows:
        assert f"{found[int(size), int(images), int(concurrency)]:.2f}" == milliseconds
    assert math.ceil(5000 * 0.00062 / (2 * 0.6)) == 3


def test_the_charts_memory_is_enough_for_its_defaults() -> None:
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "vssl" / "values.yaml").read_text(encoding="utf-8"))
    settings = Settings()

    def memory(cores: int, model: float) -> float:
        pictures = 2 * settings.queue_images * 3 * 32**2
        return model + settings.max_pending_bytes + cores * 12 * settings.max_pixels + pictures

    assert f"{memory(2, 0.1e9) / 1e9:.1f} GB for a small model" in PAGE
    assert f"With eight cores it is {memory(8, 0.1e9) / 1e9:.1f} GB" in PAGE
    limits = values["resources"]["limits"]
    assert memory(int(limits["cpu"]), 0.6e9) + 64 * 2**20 < int(limits["memory"].removesuffix("Gi")) * 2**30

"""Grafana's dashboard, made from the definitions of the metrics: python -m deploy.dashboard

A metric that is renamed makes the written file stale, and one that is removed makes this module fail; a test runs it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from vssl_server.observed import metrics

FILE = Path(__file__).with_name("helm") / "vssl" / "files" / "dashboard.json"
WIDTH, HEIGHT = 8, 7
"""Of a panel, in Grafana's grid of 24 columns."""

Query = tuple[str, str]
"""PromQL, and the legend of its series."""


def _name(metric: MetricWrapperBase) -> str:
    described = next(iter(metric.describe()))
    return described.name + ("_total" if described.type == "counter" else "")


def _rate(metric: MetricWrapperBase, by: str) -> Query:
    return f"sum by ({by}) (rate({_name(metric)}[$__rate_interval]))", _legend(by)


def _quantile(metric: MetricWrapperBase, q: float, by: str = "") -> Query:
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({_name(metric)}_bucket[$__rate_interval]))"
    return f"histogram_quantile({q}, {buckets})", f"{_legend(by)} p{q * 100:g}".strip()


def _share(part: Query, whole: Query, on: str) -> Query:
    return f"{part[0]} / on ({on}) group_left () {whole[0]}", part[1]


def _gauge(metric: MetricWrapperBase, by: str, how: str = "sum") -> Query:
    return f"{how} by ({by}) ({_name(metric)})", _legend(by)


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if label.strip())


def _panels() -> Iterator[tuple[str, str, list[Query]]]:
    """Title, unit and queries of each panel, three in a row."""
    m = metrics
    yield "Requests", "reqps", [_rate(m.REQUESTS, "status")]
    yield "Time of requests", "s", [_quantile(m.REQUEST_SECONDS, q) for q in (0.5, 0.95, 0.99)]
    yield "Requests refused", "reqps", [_rate(m.REFUSALS, "cause")]
    yield "Images", "ops", [_rate(m.IMAGES, "model, outcome")]
    yield "Images in the servers", "short", [_gauge(m.QUEUE_IMAGES, "instance")]
    waits = (m.QUEUE_SECONDS, m.DECODE_SECONDS, m.INFERENCE_SECONDS, m.ENCODE_SECONDS)
    parts = [_quantile(metric, 0.95) for metric in waits]
    yield (
        "Parts of a request, p95",
        "s",
        [(query, _name(metric)) for metric, (query, _) in zip(waits, parts, strict=True)],
    )
    yield "Uncertainty", "short", [_quantile(m.UNCERTAINTY, q, "model") for q in (0.1, 0.5, 0.9)]
    yield "Share of flags", "percentunit", [_share(_rate(m.FLAGGED, "model, flag"), _rate(m.JUDGED, "model"), "model")]
    yield "Images in a call of the engine", "short", [_quantile(m.BATCH_IMAGES, q, "model") for q in (0.5, 0.95)]
    yield (
        "Models that can answer, stores that are there",
        "short",
        [
            _gauge(m.READY, "model"),
            (_gauge(m.GALLERY_READY, "instance")[0], "galleries {{instance}}"),
        ],
    )
    yield "Calls of the store of galleries, p95", "s", [_quantile(m.STORE_SECONDS, 0.95, "op")]
    yield "Pixels in flight", "short", [_gauge(m.PENDING_PIXELS, "instance")]
    yield "Tasks that wait to be decoded", "short", [_gauge(m.DECODE_QUEUE_TASKS, "instance")]
    yield "Lag of the event loop, p99", "s", [_quantile(m.LOOP_LAG, 0.99, "instance")]
    yield "What runs", "short", [_gauge(m.MODEL, "model, version, provider, precision"), _gauge(m.BUILD, "version")]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it; the source of its data is chosen on the page."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels = [
        {
            "id": place + 1,
            "type": "timeseries",
            "title": title,
            "datasource": source,
            "gridPos": {"x": place % 3 * WIDTH, "y": place // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + number), "datasource": source, "expr": expr, "legendFormat": legend}
                for number, (expr, legend) in enumerate(queries)
            ],
        }
        for place, (title, unit, queries) in enumerate(_panels())
    ]
    return {
        "uid": "vssl",
        "title": "VSSL",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

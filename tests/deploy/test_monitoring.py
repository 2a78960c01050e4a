"""Alerts and dashboard ask for series that the server has, and the runbook says what each alert means."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from deploy import dashboard
from tests.paths import ROOT
from vssl_server.observed.metrics import REGISTRY, ModelMetrics

ALERTS = ROOT / "deploy" / "helm" / "vssl" / "files" / "alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
PROMTOOL = shutil.which("promtool")
OF_PROMETHEUS = {"instance", "job", "le"}


def selectors(promql: str) -> list[promql_parser.VectorSelector]:
    """The series that an expression asks for."""
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(promql.replace("$__rate_interval", "5m")), pre_visit=look)
    return found


def unknown(promql: str) -> list[str]:
    """Names of series, and labels of their matchers, that the server does not have."""
    ModelMetrics("shown").uncertainty.observe(-5)
    shown = {sample.name for metric in REGISTRY.collect() for sample in metric.samples}
    known = REGISTRY._names_to_collectors
    problems = []
    for selector in selectors(promql):
        name = selector.name or ""
        collector = known.get(name)
        labels = OF_PROMETHEUS | set(getattr(collector, "_labelnames", ()))
        if collector is None or (name.startswith("vssl_uncertainty_") and name not in shown):
            problems.append(name)
        problems += [matcher.name for matcher in selector.matchers.matchers if matcher.name not in labels]
    return problems


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in dashboard.dashboard()["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


@pytest.mark.parametrize(("name", "promql"), list(expressions()))
def test_it_asks_for_series_of_the_server(name: str, promql: str) -> None:
    assert unknown(promql) == []
    assert selectors(promql)


@pytest.mark.parametrize("wrong", ["vssl_no_such", "vssl_ready{machine='a'}", "rate(vssl_uncertainty_sum[5m])"])
def test_a_name_that_the_server_does_not_have_is_noticed(wrong: str) -> None:
    assert unknown(wrong)


def test_the_dashboard_is_that_of_these_metrics() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text(), "run: python -m deploy.dashboard"
    places = [tuple(panel["gridPos"].values()) for panel in json.loads(dashboard.text())["panels"]]
    assert len(set(places)) == len(places)


def test_the_runbook_has_a_section_for_each_alert() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (Vssl\w+)\n(.*?)(?=^## |\Z)", runbook, re.MULTILINE | re.DOTALL))
    assert list(sections) == [rule["alert"] for rule in RULES]
    for text in sections.values():
        assert "**Means:**" in text
        assert "**Do:**" in text


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: apt-get install prometheus")
def test_alerts_fire_when_they_should() -> None:
    assert PROMTOOL is not None
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", str(ROOT / "deploy" / "alerts_test.yaml")]):
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

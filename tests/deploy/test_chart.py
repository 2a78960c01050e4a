"""The chart for Kubernetes, rendered by Helm itself, checked by Kubernetes' schemas and the server's settings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import httpx2
import pytest
import yaml

import vssl
from tests.deploy.kubernetes import check
from tests.paths import ROOT
from tests.server.process.test_serve import Server, vssl_serve
from vssl.bundle.reading import Bundle
from vssl_server.settings import Settings, load_settings, variable

CHART = ROOT / "deploy" / "helm" / "vssl"
VALUES = {file.name.removesuffix("-values.yaml"): file for file in sorted((CHART / "ci").iterdir())}
OWN = {"host", "port", "uds", "grpc_port", "metrics_port", "tls_certificate", "tls_key", "api_keys_file"}
OWN |= {"admin_keys_file", "galleries"}
"""Settings that the chart sets, each by a value of its own."""


@pytest.fixture(scope="module")
def chart() -> Iterator[helm_python.Chart]:
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


def values(name: str) -> dict[str, Any]:
    return {} if name == "default" else dict(yaml.safe_load(VALUES[name].read_text(encoding="utf-8")))


def rendered(chart: helm_python.Chart, given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The manifests by their kind."""
    files = chart.render(given, name="shop", namespace="search")
    texts = (text for name, text in files.items() if name.endswith(".yaml"))
    return {one["kind"]: one for text in texts for one in yaml.safe_load_all(text) if one}


def container(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (one,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(one)


def environment(manifests: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {one["name"]: one.get("value", "from a Secret") for one in container(manifests)["env"]}


@pytest.mark.parametrize("name", ["default", *VALUES])
def test_manifests_have_kubernetes_schemas(chart: helm_python.Chart, name: str) -> None:
    manifests = rendered(chart, values(name))
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= manifests.keys()
    for manifest in manifests.values():
        check(manifest)
    report = helm_python.lint(CHART, values(name), strict=True)
    assert [one for one in report["messages"] if "icon" not in one["error"]] == []


@pytest.mark.parametrize("name", ["default", *VALUES])
def test_the_server_takes_its_environment(chart: helm_python.Chart, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = values(name)
    manifests = rendered(chart, given)
    for variable_name, text in environment(manifests).items():
        monkeypatch.setenv(variable_name, text)
    flags = container(manifests)["args"]
    assert flags[:2] == ["--host", "0.0.0.0"]
    settings = load_settings({"host": "0.0.0.0"})
    assert (settings.port, settings.metrics_port) == (8000, 9000)
    for key, value in given.get("settings", {}).items():
        assert getattr(settings, key) == value
    grace = manifests["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.deadline_seconds + 6 + 5  # what is in flight, the rest, and preStop


@pytest.mark.parametrize("name", ["default", *VALUES])
def test_a_pod_may_do_nothing_that_it_need_not(chart: helm_python.Chart, name: str) -> None:
    manifests = rendered(chart, values(name))
    pod, main = manifests["Deployment"]["spec"]["template"]["spec"], container(manifests)
    assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert main["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount for mount in main["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert {name for name, mount in mounts.items() if not mount.get("readOnly")} <= {"tmp", "cache", "galleries"}
    assert not any("postgresql://" in json.dumps(manifest) for manifest in manifests.values())


def test_what_each_file_of_values_is_for(chart: helm_python.Chart) -> None:
    gpu, keys, tls, folder, postgres = (
        rendered(chart, values(name)) for name in ("gpu", "keys", "tls", "folder", "postgres")
    )
    assert container(gpu)["resources"]["limits"] == {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": 1}
    assert container(gpu)["startupProbe"]["failureThreshold"] * container(gpu)["startupProbe"]["periodSeconds"] == 60
    assert environment(keys)["VSSL_API_KEYS_FILE"] == "/keys/api-keys"
    assert {port["name"] for port in container(tls)["ports"]} == {"http", "metrics", "grpc"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(tls)[probe]["httpGet"]["scheme"] == "HTTPS"
    assert tls["ServiceMonitor"]["spec"]["endpoints"][0]["scheme"] == "https"
    assert folder["Deployment"]["spec"]["replicas"] == 1
    assert folder["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert folder["PersistentVolumeClaim"]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "replicas" not in postgres["Deployment"]["spec"]
    (metric,) = postgres["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "vssl_queue_images"
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    assert postgres["PrometheusRule"]["spec"] == rules
    (endpoint,) = postgres["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in postgres["Service"]["spec"]["ports"]}
    dashboard = (CHART / "files" / "dashboard.json").read_text(encoding="utf-8")
    assert json.loads(postgres["ConfigMap"]["data"]["vssl.json"]) == json.loads(dashboard)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"replicaz": 2}, "'replicaz' not allowed"),
        ({"settings": {"batchsize": 2}}, "'batchsize' not allowed"),
        ({"settings": {"port": 2}}, "'port' not allowed"),
        ({"galleries": {"size": "1Gi"}}, "one writer: set replicas to 1"),
        ({"replicas": 1, "galleries": {"size": "1Gi"}, "autoscaling": {"enabled": True}}, "leave autoscaling off"),
        ({"galleries": {"size": "1Gi", "secret": "url"}}, "exclude each other"),
        ({"galleries": {"secret": "url"}}, "networkPolicy.egress"),
        ({"bundleClaim": "shoes"}, "name what to serve of it in bundles"),
    ],
)
def test_values_that_can_not_work_are_refused(chart: helm_python.Chart, given: dict[str, Any], message: str) -> None:
    with pytest.raises(helm_python.HelmError, match=message):
        rendered(chart, given)


def test_every_setting_can_be_given() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]
    assert schema["settings"]["properties"].keys() == Settings.model_fields.keys() - OWN
    template = (CHART / "templates" / "deployment.yaml").read_text(encoding="utf-8")
    own = {name for name in OWN - {"host", "uds"} if variable(name) in template}
    assert own == OWN - {"host", "uds"}


def test_the_chart_has_the_version_of_the_package(chart: helm_python.Chart) -> None:
    assert chart.metadata["version"] == chart.metadata["appVersion"] == vssl.__version__


def test_what_the_pod_runs_answers_its_probes(
    chart: helm_python.Chart, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "api-keys").write_text("a-key-of-the-test\n")
    main = container(rendered(chart, values("keys")))
    given = environment({"Deployment": {"spec": {"template": {"spec": {"containers": [main]}}}}})
    ports = {name: "0" for name in given if name.startswith("VSSL_PORT_")}
    here = {name: text.replace("/keys/api-keys", str(tmp_path / "api-keys")) for name, text in given.items()}
    for name, text in (here | ports | {"VSSL_ADMIN_KEYS_FILE": here["VSSL_API_KEYS_FILE"]}).items():
        monkeypatch.setenv(name, text)
    with vssl_serve(tiny_bundle.location, "--host", "127.0.0.1") as process:
        assert process.stderr is not None
        try:
            line = next(line for line in iter(process.stderr.readline, "") if " serving " in line)
            url = Server(process, line).url
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert httpx2.get(url + main[probe]["httpGet"]["path"]).status_code == 200
            assert httpx2.get(f"{url}/v1/models").status_code == 401
            assert httpx2.get(f"{url}/metrics").status_code == 404
        finally:
            process.kill()

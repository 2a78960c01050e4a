"""The manifests that are applied as they are: Kubernetes' schemas, and names that agree with each other."""

from typing import Any

import yaml

from tests.deploy.kubernetes import check
from tests.paths import ROOT

DEPLOY = ROOT / "deploy"


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def test_the_plain_manifest() -> None:
    for manifest in manifests("kubernetes.yaml"):
        check(manifest)


def test_kserve_runs_a_pod_that_kubernetes_takes() -> None:
    runtime, service = manifests("kserve/inferenceservice.yaml")
    predictor = service["spec"]["predictor"]
    model = predictor.pop("model")
    bounds = {"minReplicas", "maxReplicas"}
    pod = {"containers": runtime["spec"]["containers"], "volumes": runtime["spec"]["volumes"]}
    pod |= {key: value for key, value in predictor.items() if key not in bounds}
    check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shoes"}, "spec": pod})
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert model["modelFormat"]["name"] in {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    (container,) = runtime["spec"]["containers"]
    assert container["args"][-1] == "/mnt/models"
    assert container["args"][container["args"].index("--port") + 1] == str(container["ports"][0]["containerPort"])


def test_compose_gives_postgresql_the_shared_memory_that_an_index_takes() -> None:
    """Half of `effective_cache_size`, which is 4 GB unless set; Docker's default is 64 MB."""
    (compose,) = manifests("compose.yaml")
    assert compose["services"]["postgres"]["shm_size"] == "2gb"


def test_compose_mounts_files_that_are_there() -> None:
    (compose,) = manifests("compose.yaml")
    mounted = [volume.split(":")[0] for one in compose["services"].values() for volume in one.get("volumes", [])]
    files = [name for name in mounted if name.startswith("./")]
    assert len(files) == 5
    assert all((DEPLOY / name).is_file() for name in files)
    assert {name for name in mounted if name.isidentifier()} == set(compose["volumes"])

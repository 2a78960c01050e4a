"""The container's health check, asked as Docker asks it; and the files that deploy it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.paths import ROOT
from tests.server.conftest import Served, over_tcp
from tests.server.process.test_operating import announced
from tests.server.process.test_serve import vssl_serve
from vssl.bundle.reading import Bundle
from vssl_server.process.healthcheck import ready
from vssl_server.settings import PORTS, Settings, variable


def test_over_http_and_over_tls_known_or_not(served: Served, certificate: tuple[Path, Path]) -> None:
    with over_tcp(served.client.app) as (host, port):
        assert ready({"VSSL_HOST": host, "VSSL_PORT_HTTP": str(port)})
        assert ready({"VSSL_HOST": "0.0.0.0", "VSSL_PORT": str(port)})
    files = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
    with over_tcp(served.client.app, **files) as (host, port):
        known = {"VSSL_PORT_HTTP": str(port), "VSSL_PORT": "tcp://10.0.0.1:80"}
        assert ready(known | {"VSSL_TLS_CERTIFICATE": str(certificate[0])})
        assert ready(known)
    with pytest.raises(ConnectionRefusedError):
        ready(known)


def test_a_server_that_drains_is_not_ready(served: Served) -> None:
    with over_tcp(served.client.app) as (_, port):
        service = served.client.app.state.registry  # type: ignore[attr-defined]
        service.draining = True
        try:
            assert not ready({"VSSL_PORT_HTTP": str(port)})
        finally:
            service.draining = False


def test_over_a_unix_socket_as_a_command(tiny_bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vssl_server.process.healthcheck"]
    path = str(tmp_path / "vssl.sock")
    before = subprocess.run(command, env={"VSSL_UDS": path}, cwd=ROOT / "server", capture_output=True, text=True)
    assert before.returncode == 1
    assert before.stderr.startswith("vssl: the server does not answer: ")
    with vssl_serve(tiny_bundle.location, "--uds", path) as process:
        try:
            announced(process)
            assert ready({"VSSL_UDS": path})
        finally:
            process.kill()


def test_it_loads_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; from vssl_server.process import healthcheck; "
        "print([*{'pydantic', 'numpy', 'typer'} & set(sys.modules)])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_files_name_settings_that_exist() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    names = {variable(name) for name in Settings.model_fields}
    assert set(re.findall(r"VSSL_[A-Z_]+", dockerfile)) <= names
    assert dockerfile.count('CMD ["python", "-m", "vssl_server.process.healthcheck"]') == 2
    deployment, service = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False
    [container] = pod["containers"]
    flags = {flag[2:].removeprefix("no-").replace("-", "_") for flag in container["args"] if flag.startswith("--")}
    assert flags <= set(Settings.model_fields)
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {port["name"] for port in container["ports"]}
    paths = {container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"/readyz", "/healthz"}
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    assert float(compose["services"]["vssl"]["stop_grace_period"].rstrip("s")) > Settings().deadline_seconds + 6
    assert set(PORTS.values()) <= set(re.findall(r"VSSL_[A-Z_]+", (ROOT / "docs" / "deployment.md").read_text()))

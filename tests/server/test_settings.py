"""Settings: one list for the class, the environment, the flags and the documentation."""

import inspect
import signal
import socket
import subprocess
import sys

import httpx2
import pytest

from tests.paths import ROOT
from tests.server.process.test_serve import running
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_server.process.cli import serve
from vssl_server.settings import Settings, load_settings, outdated

DOCUMENT = ROOT / "docs" / "serving.md"


def test_every_setting_is_a_flag_and_documented() -> None:
    flags = [name for name in inspect.signature(serve).parameters if name != "bundles"]
    assert flags == list(Settings.model_fields)
    text = DOCUMENT.read_text()
    assert all(f"`--{name.replace('_', '-')}`" in text for name in flags)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "decode_threads"])
def test_the_default_that_help_tells_is_the_default(name: str) -> None:
    [option] = inspect.signature(serve, eval_str=True).parameters[name].annotation.__metadata__
    told = option.help.split("(")[1].rstrip(").")
    default = Settings.model_fields[name].default
    words = {
        "engine_threads": "by the model",
        "precision": "by the provider",
        "small_model": "by a timing",
        "log_health": "on",
    }
    words |= dict.fromkeys(("grpc_port", "metrics_port", "log_requests", "ui", "engine_process"), "off")
    words |= dict.fromkeys(("uds", "root_path", "trusted_proxies", "cors_origins", "allowed_hosts"), "none")
    words |= dict.fromkeys(("galleries", "snapshot_root"), "none")
    words |= dict.fromkeys(("api_keys_file", "admin_keys_file", "model_root", "tls_certificate", "tls_key"), "none")
    assert told == words.get(name, f"{default:g}" if isinstance(default, float) else str(default))


def test_flags_win_over_the_environment_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSSL_PORT_HTTP", "7001")
    monkeypatch.setenv("VSSL_BATCH_SIZE", "5")
    monkeypatch.setenv("VSSL_SOMETHING_ELSE", "1")
    settings = load_settings({"port": 7002, "batch_size": None, "host": None})
    assert (settings.port, settings.batch_size, settings.host) == (7002, 5, "127.0.0.1")


@pytest.mark.parametrize(
    ("environment", "ports", "said"),
    [
        ({"VSSL_PORT_HTTP": "7001", "VSSL_PORT_GRPC": "7002", "VSSL_PORT_METRICS": "7003"}, (7001, 7002, 7003), []),
        ({"VSSL_PORT": "7001"}, (7001, None, None), ["VSSL_PORT is called VSSL_PORT_HTTP now"]),
        ({"VSSL_GRPC_PORT": "7002"}, (8000, 7002, None), ["VSSL_GRPC_PORT is called VSSL_PORT_GRPC now"]),
        ({"VSSL_PORT": "1", "VSSL_PORT_HTTP": "7001"}, (7001, None, None), []),
        (
            {  # what Kubernetes sets for the Services vssl, vssl-grpc and vssl-metrics
                "VSSL_PORT": "tcp://10.0.0.1:80",
                "VSSL_PORT_80_TCP": "tcp://10.0.0.1:80",
                "VSSL_SERVICE_HOST": "10.0.0.1",
                "VSSL_SERVICE_PORT": "80",
                "VSSL_GRPC_PORT": "tcp://10.0.0.2:8001",
                "VSSL_METRICS_PORT": "tcp://10.0.0.3:9000",
            },
            (8000, None, None),
            ["VSSL_PORT=tcp://10.0.0.1:80 is passed over: that is Kubernetes' link", "VSSL_GRPC_PORT=tcp://10.0.0.2"],
        ),
        ({"VSSL_PORT": "http"}, (8000, None, None), ["VSSL_PORT=http is passed over: it is no port"]),
    ],
)
def test_the_variables_of_the_ports(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], ports: tuple[int | None, ...], said: list[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings({})
    assert (settings.port, settings.grpc_port, settings.metrics_port) == ports
    lines = list(outdated())
    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VSSL_PORT_HTTP", "70000", r"--port \(VSSL_PORT_HTTP\): .*65535"),
        ("VSSL_PORT_HTTP", "http", r"--port \(VSSL_PORT_HTTP\)"),
        ("VSSL_PORT_METRICS", "-1", r"--metrics-port \(VSSL_PORT_METRICS\)"),
        ("VSSL_ROOT_PATH", "vssl/", r"--root-path \(VSSL_ROOT_PATH\)"),
        ("VSSL_DEADLINE_SECONDS", "nan", r"--deadline-seconds \(VSSL_DEADLINE_SECONDS\)"),
        ("VSSL_DEADLINE_SECONDS", "inf", r"--deadline-seconds \(VSSL_DEADLINE_SECONDS\)"),
        ("VSSL_QUEUE_IMAGES", "10", r"max_images \(256\) is over queue_images \(10\)"),
    ],
)
def test_a_value_that_is_not_valid_names_its_flag_and_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=message):
        load_settings({})


def test_the_command_is_found_without_loading_the_server() -> None:
    code = "import sys, vssl_server.process.cli; print({'fastapi', 'uvicorn', 'pydantic'} & set(sys.modules) or [])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_server_never_loads_torch() -> None:
    code = "import sys, vssl_server.process.serve; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_no_telemetry_even_where_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle
) -> None:
    """In a process of its own: the exporter that the variables ask for is one for the whole process."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with socket.create_server(("127.0.0.1", 0)) as collector:
        collector.setblocking(False)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.getsockname()[1]}")
        with running(tiny_bundle.location) as server:
            assert httpx2.get(f"{server.url}/readyz").status_code == 200
            assert server.stop(signal.SIGTERM) == ""
        with pytest.raises(BlockingIOError):
            collector.accept()

"""Settings: one list for the class, the environment, the flags and the documentation."""

import inspect
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import serving
from vssl.bundle import Bundle
from vssl.errors import UsageError
from vssl_server.command import serve
from vssl_server.settings import Settings, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"


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
    words = {"engine_threads": "by the model", "small_model": "by a timing", "grpc_port": "off", "log_requests": "off"}
    words |= dict.fromkeys(("api_keys_file", "admin_keys_file", "model_root", "tls_certificate", "tls_key"), "none")
    assert told == words.get(name, f"{default:g}" if isinstance(default, float) else str(default))


def test_flags_win_over_the_environment_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSSL_PORT", "7001")
    monkeypatch.setenv("VSSL_BATCH_SIZE", "5")
    monkeypatch.setenv("VSSL_SOMETHING_ELSE", "1")
    settings = load_settings({"port": 7002, "batch_size": None, "host": None})
    assert (settings.port, settings.batch_size, settings.host) == (7002, 5, "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VSSL_PORT", "70000", r"--port \(VSSL_PORT\): .*65535"),
        ("VSSL_PORT", "http", r"--port \(VSSL_PORT\)"),
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
    code = "import sys, vssl_server.command; print([m for m in ('fastapi', 'uvicorn', 'pydantic') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_server_never_loads_torch() -> None:
    code = "import sys, vssl_server.serving; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_no_telemetry_even_where_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tiny_bundle: Bundle
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with socket.create_server(("127.0.0.1", 0)) as collector:
        collector.setblocking(False)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.getsockname()[1]}")
        with serving(tiny_bundle) as running:
            assert running.client.get("/readyz").status_code == 200
        with pytest.raises(BlockingIOError):
            collector.accept()
    # An attempt would have failed, as no exporter is installed, and been logged.
    assert [record for record in caplog.records if record.name == "fastapi"] == []

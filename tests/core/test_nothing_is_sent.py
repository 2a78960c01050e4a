"""No dependency of ours keeps an identity of its user or sends anything: an empty home stays empty."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

VSSL = str(Path(sys.executable).parent / "vssl")
VARIABLES = ("ORT_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "XDG_CACHE_HOME")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def environment(home: Path) -> dict[str, str]:
    """A fresh user's."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES} | {"HOME": str(home)}


def strange(home: Path) -> Iterator[str]:
    """Files that are not ours."""
    for path in home.rglob("*"):
        if path.is_file() and not path.is_relative_to(home / ".cache" / "vssl"):
            yield str(path.relative_to(home))


def test_embedding_and_looking_at_a_model_leave_nothing(home: Path, fashion_folder: Path, tmp_path: Path) -> None:
    for arguments in (["embed", str(fashion_folder), "-o", str(tmp_path / "out")], ["info"]):
        subprocess.run([VSSL, *arguments], env=environment(home), check=True, capture_output=True)
        assert list(strange(home)) == []


def test_a_server_leaves_nothing(home: Path) -> None:
    with subprocess.Popen(
        [VSSL, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment(home)
    ) as process:
        assert process.stderr is not None
        assert any(" on http://" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
    assert process.returncode == 0
    assert list(strange(home)) == []


def test_whoever_wants_to_send_may() -> None:
    code = "import os, vssl; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    for given, wanted in (({}, "1 0"), ({"ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}, "0 1")):
        variables = environment(Path("/")) | given
        done = subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == wanted

"""Triton's perf_analyzer, over HTTP and gRPC, with its statistics of our server."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.server.conftest import png
from tests.server.process.test_serve import running
from vssl.bundle.reading import Bundle

pytestmark = pytest.mark.triton

VENV = ROOT / ".venv-triton"


@pytest.fixture(scope="module")
def addresses(tiny_bundle: Bundle) -> Iterator[dict[str, str]]:
    with running(tiny_bundle.location, "--grpc-port", "0") as server:
        grpc = server.line.partition("grpc://")[2].strip()
        yield {"http": server.url.removeprefix("http://"), "grpc": grpc}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The two shared libraries that the program needs, under the names by which it asks for them."""
    folder = tmp_path_factory.mktemp("lib")
    [packages] = (VENV / "lib").glob("python3.*/site-packages/nvidia_pytriton.libs")
    for name, pattern in (("libb64.so.0d", "libb64-*"), ("libcudart.so.12", "libcudart-*")):
        [found] = packages.glob(pattern)
        (folder / name).symlink_to(found)
    return f"{folder}:{Path(sys.base_prefix, 'lib')}"


def analyze(address: str, libraries: str, *flags: str) -> str:
    # One short window a level, any spread: this asks whether it works, not how fast.
    window = ("-p", "500", "-s", "999", "-r", "3", "--concurrency-range", "1:2")
    done = subprocess.run(
        [VENV / "bin" / "perf_analyzer", "-u", address, *window, *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(output: str) -> None:
    """Both sides counted, at both concurrencies, and agree about what the model did."""
    for name in ("Request count", "Inference count", "Execution count", "Successful request count"):
        counts = re.findall(rf"^ +{name}: (\d+)$", output, re.MULTILINE)
        assert len(counts) == 2
        assert all(int(count) > 0 for count in counts)
    assert len(re.findall(r"^Concurrency: [12], throughput: [\d.]+ infer/sec", output, re.MULTILINE)) == 2


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_pixels(addresses: dict[str, str], libraries: str, protocol: str) -> None:
    check(analyze(addresses[protocol], libraries, "-i", protocol, "-m", "tiny", "-b", "4"))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_image_files(addresses: dict[str, str], libraries: str, tmp_path: Path, protocol: str) -> None:
    element = len(png(9)).to_bytes(4, "little") + png(9)
    content = {"b64": base64.b64encode(element).decode()}
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"data": [{"image": {"content": content, "shape": [1]}}]}))
    check(analyze(addresses[protocol], libraries, "-i", protocol, "-m", "tiny_image", "--input-data", str(file)))

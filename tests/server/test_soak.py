"""The soak of `benchmarks/soak.py`, shortened: overload and bad requests for twenty seconds, every answer checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vssl.bundle.reading import Bundle


@pytest.mark.slow
def test_under_overload_and_bad_requests_every_answer_is_right(tiny_bundle: Bundle, tmp_path: Path) -> None:
    flags = ["--bundle", str(tiny_bundle.location), "--seconds", "20", "--json", str(tmp_path / "soak.json")]
    done = subprocess.run([sys.executable, "-m", "benchmarks.soak", *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = json.loads((tmp_path / "soak.json").read_text())["rows"]
    assert row["good 200"] > 0
    assert row["corrupt 422"] > 0

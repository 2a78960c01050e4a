"""The soak of `benchmarks/soak.py`, shortened: overload and attacks for twenty seconds, every answer checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vssl.bundle.reading import Bundle


@pytest.mark.slow
def test_under_overload_and_attacks_every_answer_is_right(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """How long they take is another matter: the machine may be busy, so the exit status says nothing here."""
    flags = ["--bundle", str(tiny_bundle.location), "--seconds", "20", "--json", str(tmp_path / "soak.json")]
    done = subprocess.run([sys.executable, "-m", "benchmarks.soak", *flags], capture_output=True, text=True)
    assert (tmp_path / "soak.json").exists(), done.stdout + done.stderr
    [row] = json.loads((tmp_path / "soak.json").read_text())["rows"]
    assert row["wrong"] == 0, row["what"]
    for outcome in ("good 200", "corrupt 422", "half_head 408", "smuggled 422", "upgraded 200", "packed 413"):
        assert row[outcome] > 0

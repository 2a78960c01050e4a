import os
from pathlib import Path

import pytest

from vssl import memory


def test_the_cores_at_hand_are_those_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(memory, "CPU_LIMIT", tmp_path / "cpu.max")
    assert memory.cores() == 8
    for limit, cores in (("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1)):
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
        assert memory.cores() == cores

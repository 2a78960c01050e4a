import ctypes
import os
import subprocess
import sys
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


FAULTS = """
import resource, sys
import numpy as np
from vssl.memory import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_large_blocks_are_used_again_without_asking_the_system() -> None:
    """Ten blocks of 128 MB, one after the other, in a process of their own: the pages that were fetched."""

    def faults(*words: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, *words], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert faults() > 10 * 2**17 / 4096
    assert faults("keep") < 100


IDLE = """
import time
import vssl
import numpy as np
product = np.ones((64, 256), np.float32) @ np.ones((256, 1000), np.float32)
begun = time.process_time()
time.sleep(0.3)
print(time.process_time() - begun)
"""


@pytest.mark.skipif(memory.cores() < 2, reason="numpy's products have one thread on one core")
def test_after_a_product_no_thread_of_numpys_keeps_a_core_busy() -> None:
    threads = ("OPENBLAS_THREAD_TIMEOUT", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    variables = {name: value for name, value in os.environ.items() if name not in threads}
    done = subprocess.run([sys.executable, "-c", IDLE], env=variables, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 0.02, "seconds of work while the process slept"

"""How fast several ways answer the same questions: in turn, since the machine is not always equally fast."""

import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.report import Row
from vssl.arrays import Float32s

SINGLE, TURNS = 250, 5

Way = tuple[str, Callable[[Float32s], Any], Any]
"""Its name, what asks, and the true neighbours as an array, as wide as there are."""


def speeds(
    ways: Sequence[Way],
    queries: Float32s,
    cpu_seconds: Callable[[], float] = time.process_time,
) -> list[Row]:
    """Recall of each way, and queries a second and a CPU-second, one by one and all at once: the ways in turn, a fifth
    of the questions at a time, since the machine is not always equally fast.
    """
    rows: list[Row] = []
    for name, ask, true in ways:
        found = ask(queries)  # warm
        share = [len(set(found[row]) & set(true[row])) / len(true[row]) for row in range(len(true))]
        ram = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"of": name, "recall": float(np.mean(share)), "ram_mb": ram})
    singles = [queries[n % len(queries), None] for n in range(SINGLE)]
    for label, tasks in (("single", singles), (f"batch_{len(queries)}", [queries] * TURNS)):
        asked = sum(map(len, tasks))
        each: list[list[float]] = [[] for _ in ways]
        cpu = [0.0] * len(ways)
        for turn in range(TURNS):
            # There and back. What ran before has filled the caches, so each begins with a question that doesn't count.
            for way in range(len(ways))[:: -1 if turn % 2 else 1]:
                ask = ways[way][1]
                ask(queries[:1])
                begun = cpu_seconds()
                for few in tasks[turn::TURNS]:
                    start = time.perf_counter()
                    ask(few)
                    each[way].append(time.perf_counter() - start)
                cpu[way] += cpu_seconds() - begun
        for row, seconds, spent in zip(rows, each, cpu, strict=True):
            row[f"{label}_per_s"] = asked / sum(seconds)
            row[f"{label}_per_cpu_s"] = asked / max(spent, 1e-3)
            row[f"{label}_p50_ms"] = float(np.median(seconds)) * 1000
    return rows

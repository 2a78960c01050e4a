"""Images per second of each precision of a bundle."""

import time
from collections.abc import Mapping

import numpy as np

from vssl.arrays import Pixels
from vssl.bundle.manifest import Precision
from vssl.engine import Engine

SPEED_BATCHES = (1, 8, 32, 128)
SPEED_SECONDS = 0.2
"""Wall time of each measurement of speed."""


def speeds(engines: Mapping[Precision, Engine], pixels: Pixels) -> dict[Precision, dict[str, float]]:
    """Images per second of each engine at each batch size, on these images repeated as far as needed, not decoded.

    At each size the engines take turns, so that a load that comes and goes tells little against one of them.
    """
    found: dict[Precision, dict[str, float]] = {precision: {} for precision in engines}
    for size in SPEED_BATCHES:
        batch = np.resize(pixels, (size, *pixels.shape[1:]))
        for precision, engine in engines.items():
            engine(batch)
            calls, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < SPEED_SECONDS:
                engine(batch)
                calls += 1
            found[precision][str(size)] = round(calls * size / elapsed, 1)
    return found

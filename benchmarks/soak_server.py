"""`vssl serve` with an engine that fails now and then: two calls in a row of every so many.

A batch that fails is computed once more, image by image: the second failure is what a client hears of. A third one in a
row would make the server look whether the engine has failed for good.
"""

import itertools

from vssl.arrays import Pixels
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle
from vssl.cli import main
from vssl.engine import Embeddings
from vssl_server.engine import opening as engines
from vssl_server.process import serve as serving

CALLS = 300
"""Of which the last two fail."""


class Flaky(engines.ServedEngine):
    """An engine like another, but for the calls that fail."""

    def __init__(self, engine: engines.ServedEngine) -> None:
        vars(self).update(vars(engine))
        self._calls = itertools.count(1)

    def __call__(self, images: Pixels) -> Embeddings:
        """Embed uint8 images [N, S, S, 3]."""
        if next(self._calls) % CALLS in (CALLS - 1, 0):
            raise RuntimeError("this call was to fail")
        return super().__call__(images)


def open_flaky(bundle: Bundle, threads: int, full: int, small: bool | None, precision: Precision | None) -> Flaky:
    """In place of `open_engine`."""
    return Flaky(engines.open_engine(bundle, threads, full, small, precision))


vars(serving)["open_engine"] = open_flaky

if __name__ == "__main__":
    main()

"""`vssl serve` with engines that fail when a file says so, and with all waits short.

$SICK/NAME holds `raise` or `hang`, and perhaps the process that is meant. While $SICK/NAME.loads is there, the model is
still being loaded, in ONNX Runtime's own code. A module of its own, so that workers, which
start by importing it, are like that too.
"""

import os
import threading
from pathlib import Path

from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle
from vssl.cli import main
from vssl.engine import Embeddings, Engine
from vssl_server.engine import health
from vssl_server.engine.opening import ServedEngine
from vssl_server.process import engine_process
from vssl_server.process import serve as serving

FOLDER = Path(os.environ["SICK"])
health.PROBE_SECONDS = 0.3
health.END_SECONDS = 1.0
serving.LOOK_SECONDS = 0.1


class Sick(ServedEngine):
    """A real engine that may fall ill."""

    def __init__(self, bundle: Bundle) -> None:
        engine = Engine(bundle, 1)
        super().__init__(engine, 1, engine, (1, 1))
        self.file = FOLDER / bundle.manifest.name

    def __call__(self, images: Pixels) -> Embeddings:
        what, _, process = self.file.read_text().partition(" ") if self.file.exists() else ("", "", "")
        if process in ("", str(os.getpid())):
            if what == "raise":
                raise RuntimeError("an illegal memory access was encountered")
            if what == "hang":
                threading.Event().wait()
        return super().__call__(images)


def open_sick(bundle: Bundle, threads: int, full: int, small: bool | None, precision: str | None) -> ServedEngine:
    while (FOLDER / f"{bundle.manifest.name}.loads").exists():
        Engine(bundle, 1)
    return Sick(bundle)


vars(serving)["open_engine"] = vars(engine_process)["open_engine"] = open_sick

if __name__ == "__main__":
    main()

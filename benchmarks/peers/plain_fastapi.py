"""What one writes first: FastAPI, and one run of the session per request. The peer in `benchmarks.serving`.

The same decoding and the same ONNX file as ours; run as `python -m benchmarks.peers.plain_fastapi BUNDLE [ours]`:
`ours` opens the session with our options, else it has ONNX Runtime's defaults.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.concurrency import run_in_threadpool

from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import OUTPUTS, Embeddings, Engine
from vssl.images.decoding import decode


def create_app(location: Path, ours: bool) -> FastAPI:
    """One route for an image as it is, one for several as multipart."""
    bundle = open_bundle(location)
    engine = Engine(bundle) if ours else default_session(bundle)
    app = FastAPI()

    def answer(files: list[bytes]) -> dict[str, Any]:
        found = engine(np.stack([decode(data, bundle.manifest.preprocessing) for data in files]))
        return {
            "embedding": found.embedding.tolist(),
            "variance": found.variance.tolist(),
            "uncertainty": found.uncertainty.tolist(),
        }

    @app.post("/one")
    async def one(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(answer, [await request.body()])

    @app.post("/many")
    def many(images: list[UploadFile]) -> dict[str, Any]:
        return answer([image.file.read() for image in images])

    return app


def default_session(bundle: Bundle) -> Callable[[npt.NDArray[np.uint8]], Embeddings]:
    """The model as ONNX Runtime opens it if one says nothing."""
    session = onnxruntime.InferenceSession(bundle.read("model.onnx"), providers=["CPUExecutionProvider"])
    return lambda pixels: Embeddings(*session.run(OUTPUTS, {"image": pixels}))


if __name__ == "__main__":
    uvicorn.run(create_app(Path(sys.argv[1]), ours=sys.argv[2:] == ["ours"]), port=0, access_log=False)

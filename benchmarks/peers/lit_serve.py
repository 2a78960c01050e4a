"""LitServe with its batching: `PEER_BUNDLE=… python -m benchmarks.peers.lit_serve PORT`, in `.venv-peers`."""

import sys
from typing import Any

import litserve
import numpy as np

from benchmarks.peers.encoder import Encoder


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Images as base64 in JSON: what waits in LitServe's queue must survive a way between processes."""

    def setup(self, device: str) -> None:
        """Open the session in the worker."""
        self.encoder = Encoder()

    def decode_request(self, request: dict[str, list[str]]) -> Any:  # noqa: ANN401
        """One request's pixels."""
        return self.encoder.pixels(request["images"])

    def batch(self, inputs: list[Any]) -> tuple[Any, list[int]]:
        """Several requests as one batch, and how many images each has."""
        return np.concatenate(inputs), [len(one) for one in inputs]

    def predict(self, batch: tuple[Any, list[int]]) -> tuple[list[dict[str, Any]], list[int]]:
        """Infer."""
        return self.encoder(batch[0]), batch[1]

    def unbatch(self, output: tuple[list[dict[str, Any]], list[int]]) -> list[list[dict[str, Any]]]:
        """Each request's own answers."""
        rows = iter(output[0])
        return [[next(rows) for _ in range(count)] for count in output[1]]

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer."""
        return {"data": output}


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu").run(port=int(sys.argv[1]), generate_client_file=False)

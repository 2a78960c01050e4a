"""BentoML with its adaptive batching: `PEER_BUNDLE=… bentoml serve benchmarks.peers.bento:Embedder --port PORT`."""

from typing import Any

import bentoml

from benchmarks.peers.encoder import Encoder


@bentoml.service(traffic={"timeout": 60})
class Embedder:
    """Images as base64 in JSON, as for LitServe."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    @bentoml.api(batchable=True, max_batch_size=128, max_latency_ms=1000)  # type: ignore[untyped-decorator]
    def embed(self, images: list[str]) -> list[dict[str, Any]]:
        """The images of several requests at once."""
        return self.encoder(self.encoder.pixels(images))

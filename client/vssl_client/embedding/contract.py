"""What embeds images, a server or an engine in this process, and what becomes of images that can't be embedded."""

from collections.abc import Sequence
from typing import Literal, Protocol

from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult

OnError = Literal["raise", "skip", "return"]
"""What becomes of an image that can't be embedded: an exception, nothing, or a row with its error."""


class Embedder(Protocol):
    """Embeds batches of encoded images; may be called from many threads."""

    @property
    def in_flight(self) -> int:
        """How many batches under way at once keep it busy."""

    def model(self) -> ModelInfo:
        """The model that answers now.

        Raises:
            ClientError: the server does not say.
        """

    def max_image_bytes(self) -> int:
        """Encoded bytes of the largest image that it takes.

        Raises:
            ClientError: the server does not say.
        """

    def embed_batch(self, images: Sequence[bytes]) -> EmbeddingResult:
        """Embed at least one encoded image. One that can't be embedded has its error in its row.

        Raises:
            ClientError: the batch as a whole could not be embedded.
        """

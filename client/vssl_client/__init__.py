"""The client: SDK and folder jobs; no torch.

Imports core and gallery. Its rooms, each may import those after it: commands, filling and neighbours, folder, client
and async_client, transports, galleries, embedding, exchange and parts, inputs and options, results, formats, errors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vssl.errors import UsageError
    from vssl_client.async_client import AsyncClient
    from vssl_client.client import Client
    from vssl_client.errors import (
        BadAnswer,
        ClientError,
        ConnectionFailed,
        ImageRejected,
        ModelChanged,
        Overloaded,
        RequestRejected,
        ServerFailed,
    )
    from vssl_client.folder.embed_folder import embed_folder
    from vssl_client.inputs import ImageInput
    from vssl_client.parts.stored import StoredEmbeddings, iter_embeddings, read_embeddings
    from vssl_client.results.model_info import ModelInfo
    from vssl_client.results.result import EmbeddingResult, ImageEmbedding

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "EmbeddingResult",
    "ImageEmbedding",
    "ImageInput",
    "ImageRejected",
    "ModelChanged",
    "ModelInfo",
    "Overloaded",
    "RequestRejected",
    "ServerFailed",
    "StoredEmbeddings",
    "UsageError",
    "embed_folder",
    "iter_embeddings",
    "read_embeddings",
]

_HOMES = {
    "AsyncClient": "vssl_client.async_client",
    "Client": "vssl_client.client",
    "EmbeddingResult": "vssl_client.results.result",
    "ImageEmbedding": "vssl_client.results.result",
    "ImageInput": "vssl_client.inputs",
    "ModelInfo": "vssl_client.results.model_info",
    "StoredEmbeddings": "vssl_client.parts.stored",
    "UsageError": "vssl.errors",
    "embed_folder": "vssl_client.folder.embed_folder",
    "iter_embeddings": "vssl_client.parts.stored",
    "read_embeddings": "vssl_client.parts.stored",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    # On first use: `vssl --help` imports this package for its commands alone, and must not wait for httpx2 and numpy.
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "vssl_client.errors")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

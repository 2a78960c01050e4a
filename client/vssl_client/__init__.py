"""The client: SDK and folder jobs; no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from vssl_client.result import EmbeddingResult, ModelInfo

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "EmbeddingResult",
    "ImageRejected",
    "ModelChanged",
    "ModelInfo",
    "Overloaded",
    "RequestRejected",
    "ServerFailed",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    # On first use: `vssl --help` imports this package for its command alone, and must not wait for httpx2 and numpy.
    if name in __all__:
        for home in ("errors", "result", "client", "async_client"):
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

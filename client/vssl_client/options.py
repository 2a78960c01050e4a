"""How a client talks to its servers, by any transport."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import vssl
from vssl.errors import UsageError

TransportName = Literal["http", "grpc", "triton"]
Compression = Literal["gzip"]
Resizing = bool | Literal["auto"]
"""Whether images are decoded and resized by the client; `auto`: where the way to the server is the bottleneck."""
RESIZING: dict[str, Resizing] = {"auto": "auto", "always": True, "never": False}
"""Its words on the command line."""
USER_AGENT = f"vssl/{vssl.__version__}"


@dataclass(frozen=True)
class Options:
    """Settings of a `Client` or an `AsyncClient`, which describe them.

    Raises:
        UsageError: a value out of range.
    """

    transport: TransportName = "http"
    model: str | None = None
    timeout: float = 60.0
    retries: int = 5
    connections: int = 4
    api_key: str | None = field(default=None, repr=False)
    compression: Compression | None = None
    resize_locally: Resizing = "auto"
    max_image_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.transport not in get_args(TransportName):
            raise UsageError(f"transport {self.transport!r} is not one of {', '.join(get_args(TransportName))}")
        if self.compression not in (None, *get_args(Compression)):
            raise UsageError(f"compression {self.compression!r} is not gzip or None")
        if not isinstance(self.resize_locally, bool) and self.resize_locally != "auto":
            raise UsageError(f"resize_locally {self.resize_locally!r} is not True, False or 'auto'")
        if self.timeout <= 0 or self.retries < 0 or self.connections < 1 or (self.max_image_bytes or 1) < 1:
            raise UsageError("timeout, connections and max_image_bytes must be over 0, and retries not under it")
        if self.model is None and self.transport != "http":
            raise UsageError("name the model with `model`: a Triton server has many")

    def headers(self) -> dict[str, str]:
        """The credentials, as headers of HTTP or metadata of gRPC."""
        return {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}

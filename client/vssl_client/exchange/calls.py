"""Requests to a server that are no embedding, and which of them may be repeated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        method: of HTTP.
        path: from the root, percent-encoded.
        params: of the query string.
        body: as it is sent.
        content_type: of the body.
        repeatable: whether sending it twice does what sending it once does; others are sent again only if the server
            says that it has not begun.
        sink: gets the body of the answer as it comes; by default the answer holds it.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    repeatable: bool = True
    sink: Callable[[bytes], object] | None = None

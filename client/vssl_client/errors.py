"""What can go wrong between a caller and a model, as types to branch on."""

from vssl.errors import VsslError


class ClientError(VsslError):
    """Base of every error that the client raises at run time.

    `request_id` names the request in the server's log; quote it when you ask the people who run the server.
    """

    request_id: str | None = None


class ConnectionFailed(ClientError):
    """The server can't be reached, dropped the connection or did not answer in time, after all retries."""


class Overloaded(ClientError):
    """The server takes no work now (429, 503), after all retries.

    `status` is its HTTP status, `retry_after` the seconds that it asks to wait, or None; `code` its word for the cause.
    """

    def __init__(self, message: str, status: int, retry_after: float | None, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retry_after = retry_after


class ServerFailed(ClientError):
    """The server failed (another 5xx `status`), after all retries; `code` is its word for the cause."""

    def __init__(self, message: str, status: int, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class RequestRejected(ClientError):
    """The server refuses the request as a whole (4xx `status`); `type` and `code` are its words for the cause."""

    def __init__(self, message: str, status: int, type: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code


class BadAnswer(ClientError):
    """The answer is not one that a VSSL server gives."""


class ModelChanged(ClientError):
    """The server changed its model in the middle; embeddings of two models can't be compared."""


class ImageRejected(ClientError):
    """One image has no embedding.

    `type` is a stable word (that of an `ImageError`, `unreadable`, `not_finite`), `message` says why.
    `index` is its place among the given images, `name` its path if it came as one.
    """

    def __init__(self, type: str, message: str, index: int | None = None, name: str | None = None) -> None:
        super().__init__(type, message)
        self.type = type
        self.message = message
        self.index = index
        self.name = name

    def __str__(self) -> str:
        where = self.name if self.name is not None else f"image {self.index}" if self.index is not None else "image"
        return f"{where}: {self.reason}"

    @property
    def reason(self) -> str:
        """`type: message`, as the `error` column holds it."""
        return f"{self.type}: {self.message}"

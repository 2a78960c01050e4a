"""Errors as clients see them, for every status: `{"error": {"message", "type", "param", "code"}}`, and under `/v2`
`{"error": message}`, as the Open Inference Protocol has it.
"""

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from vssl_server.observed import metrics

CLIENT_CLOSED_REQUEST = 499
"""For the metrics only: nobody is there to read it."""

REQUEST_ID = "x-request-id"
"""The header, and the scope's key, with the request's name in the logs."""


MAX_MESSAGE, MAX_PARAM = 2000, 200
"""In bytes of UTF-8. A message may quote the request, and gRPC's clients take at most 8 KiB of metadata."""

MAX_PROBLEMS = 5
"""The most problems of one request that its answer lists."""


class ApiError(Exception):
    """What a client is told went wrong. `code` is a stable word to branch on, `param` the field at fault.

    A message or a parameter that is too long ends in `…`.
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        message = clipped(message, MAX_MESSAGE)
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers
        self.param = None if param is None else clipped(param, MAX_PARAM)

    def response(self, path: str) -> Response:
        """The error, counted, in the shape of the protocol that the path belongs to."""
        metrics.REFUSALS.labels(self.code).inc()
        error: object = self.message
        if path != "/v2" and not path.startswith("/v2/"):
            error = {"message": self.message, "type": _type(self.status), "param": self.param, "code": self.code}
        return Response(orjson.dumps({"error": error}), self.status, self.headers, "application/json")


def busy(status: int, code: str, message: str, seconds: float = 1) -> ApiError:
    """429 or 503: the same request may succeed in about `seconds`."""
    return ApiError(status, code, message, headers={"Retry-After": str(max(1, math.ceil(seconds)))})


def clipped(text: str, most: int) -> str:
    """The text in at most `most` bytes of UTF-8; it ends in `…` where something is left out."""
    if len(text) * 4 <= most:
        return text
    data = text[:most].encode(errors="replace")  # a surrogate is no text
    if len(data) <= most and len(text) <= most:
        return data.decode()
    return data[: most - 3].decode(errors="ignore") + "…"


def first_few(problems: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    shown = [clipped(problem, MAX_MESSAGE // MAX_PROBLEMS - 20) for problem in problems[:MAX_PROBLEMS]]
    more = len(problems) - len(shown)
    return "; ".join(shown) + (f"; and {more:,} more" if more else "")


def invalid_option(message: str, param: str) -> ApiError:
    """422: a value in the query or in the JSON that is not what it must be."""
    return ApiError(422, "invalid_option", message, param)


def described(problems: Sequence[Any]) -> tuple[str, str]:
    """A message and the first field at fault, from pydantic's list of errors."""
    places = [[str(part) for part in problem["loc"] if part != "query"] or ["body"] for problem in problems]
    texts = [
        f"{clipped('.'.join(place), 100)}: {problem['msg']}" for place, problem in zip(places, problems, strict=True)
    ]
    return first_few(texts), places[0][0]


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


async def _api_error(request: Request, error: ApiError) -> Response:
    return error.response(request.url.path)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    phrase = HTTPStatus(error.status_code).phrase
    path = request.url.path
    message = f"{request.method} {path}: {error.detail}"
    return ApiError(error.status_code, phrase.lower().replace(" ", "_"), message, headers=error.headers).response(path)


async def _invalid_request(request: Request, error: RequestValidationError) -> Response:
    return invalid_option(*described(error.errors())).response(request.url.path)


async def _disconnected(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _unexpected(request: Request, error: Exception) -> Response:
    # The traceback goes to the server's log and not to the client.
    failure = ApiError(500, "internal_error", "the server failed on this request; its log says why")
    response = failure.response(request.url.path)
    response.headers[REQUEST_ID] = request.scope[REQUEST_ID]  # this answer leaves outside of our middleware
    return response


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    ApiError: _api_error,
    HTTPException: _http_exception,
    RequestValidationError: _invalid_request,
    ClientDisconnect: _disconnected,
    Exception: _unexpected,
}

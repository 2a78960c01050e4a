"""The busiest routes are answered as the application would answer them."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient

from vssl.errors import UsageError, VsslError
from vssl_server.http.direct import DirectRoutes, Endpoint
from vssl_server.wire.errors import HANDLERS, ApiError

ERRORS: dict[str, Callable[[], Exception]] = {
    "refused": lambda: ApiError(409, "refused", "no"),
    "known": lambda: UsageError("known"),
    "bug": lambda: ValueError("bug"),
}
"""Made anew each time: an error that stays would keep its traceback, and with it the request."""


async def plain(request: Request) -> Response:
    return JSONResponse({"body": (await request.body()).decode()})


async def named(request: Request, name: str) -> Response:
    if name in ERRORS:
        raise ERRORS[name]()
    return JSONResponse({"name": name, "query": dict(request.query_params)})


async def as_teapot(request: Request, error: VsslError) -> Response:
    return JSONResponse({"known": str(error)}, 418)


def application(direct: bool) -> TestClient:
    handlers = {kind: handler for kind, handler in HANDLERS.items() if kind is not Exception} | {VsslError: as_teapot}
    app = FastAPI(exception_handlers=handlers, redirect_slashes=False)
    endpoints: dict[str, Endpoint] = {"/v1/embed": plain, "/v1/things/{name}/search": named}
    for path, endpoint in endpoints.items():
        app.post(path)(endpoint)
    if direct:
        app.add_middleware(DirectRoutes, endpoints=endpoints, handlers=app.exception_handlers)  # type: ignore[arg-type]
        app.router.routes.clear()  # whatever is answered was answered directly
    return TestClient(app)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embed",
        "/v1/embed?a=1",
        "/v1/things/shoes/search?k=1",
        "/v1/things/%C3%A4%20b/search",
        "/v1/things/{name}/search",
        "/v1/things/%7Bname%7D/search",
        "/v1/things/refused/search",
        "/v1/things/known/search",
        "/v1/things//search",
        "/v1/things/a/b/search",
        "/v1/things/a/search/",
        "/v1/embed/",
        "/v1/{name}/embed",
        "/search",
        "/",
    ],
)
def test_answers_are_those_of_the_application(path: str) -> None:
    wanted, got = (application(direct).post(path, content=b"x") for direct in (False, True))
    assert (got.status_code, got.content) == (wanted.status_code, wanted.content)


def test_an_unknown_error_goes_on_and_so_does_another_method() -> None:
    for direct in (False, True):
        client = TestClient(application(direct).app)
        with pytest.raises(ValueError, match="bug"):
            client.post("/v1/things/bug/search")
        assert client.get("/v1/embed").status_code == (404 if direct else 405)

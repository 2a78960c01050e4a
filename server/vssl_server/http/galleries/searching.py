"""Search and classification: what in a gallery is near to an image, and what that says of it."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from vssl_gallery.classifying import Classified
from vssl_gallery.gallery import MAX_K
from vssl_gallery.scoring import Score
from vssl_gallery.store.contract import Found, Version
from vssl_gallery.view import View
from vssl_server.http.exchange import Exchange, json_response
from vssl_server.http.galleries import row_schema
from vssl_server.http.galleries.queries import Asked, Query, asked, read_query
from vssl_server.http.galleries.row_form import columns_of, row_as_json
from vssl_server.http.galleries.viewed import galleries_of, view_of
from vssl_server.models.threads import LARGE_BODY_BYTES, in_thread_if


class SearchBody(Query):
    """The body of `POST …/search`."""

    k: int = Field(10, ge=1, le=MAX_K)
    filter: dict[str, Any] | None = None
    columns: list[str] = Field([], description="Of each neighbour, beside its id")
    exact: bool | None = Field(None, description="Leave the index out; by default up to 250,000 rows")
    min_version: int | None = Field(None, ge=0, description="Answer by this version or a newer one")
    score: Score = "cosine"
    exclude_self: bool = Field(False, description="Leave the row itself out, where it is asked by id")


class ClassifyBody(Query):
    """The body of `POST …/classify`."""

    alpha: float = Field(0.1, description="How often a prediction set may miss the label: 0.05, 0.1 or 0.2")
    risk: float = Field(0.05, description="Errors among the accepted: 0.01, 0.02, 0.05, 0.1 or 0.2")
    filter: dict[str, Any] | None = None
    min_version: int | None = Field(None, ge=0)


async def search(request: Request, name: str) -> Response:
    """The rows nearest to images, vectors or rows."""
    exchange, galleries = Exchange(request), galleries_of(request)
    async with exchange.waiting("gallery"):
        view = await view_of(request, name, "search")
    async with exchange.receiving():
        body, files = await read_query(request, exchange, SearchBody, view.gallery.spec.dimension)
    assert isinstance(body, SearchBody)
    columns = columns_of(view.gallery.spec, body.columns)
    itself = [body.id] if body.id is not None else body.ids
    more = int(body.exclude_self and itself is not None and body.k < MAX_K)
    async with exchange.answering("images"):
        given = await asked(request, exchange, galleries, view, body, files)
        begun = time.monotonic()
        find = partial(
            view.search,
            given.queries,
            body.k + more,
            body.filter,
            columns,
            body.exact,
            None if body.min_version is None else Version(body.min_version),
            body.score,
        )
        found = await galleries.run("search", find)
        without = itself if body.exclude_self else None
        large = found.rows.nbytes > LARGE_BODY_BYTES
        data = await in_thread_if(large, _neighbours, found, given, view, without, body.k)
    timing = _timing(exchange, given, begun)
    return json_response({"version": found.version, "exact": found.exact, "data": data, "timing": timing})


async def classify(request: Request, name: str) -> Response:
    """Labels by the nearest labelled rows, each with the probability that it is right, or the reason to abstain."""
    exchange, galleries = Exchange(request), galleries_of(request)
    async with exchange.waiting("gallery"):
        view = await view_of(request, name, "search")
    async with exchange.receiving():
        body, files = await read_query(request, exchange, ClassifyBody, view.gallery.spec.dimension)
    assert isinstance(body, ClassifyBody)
    async with exchange.answering("images"):
        given = await asked(request, exchange, galleries, view, body, files)
        begun = time.monotonic()
        version = None if body.min_version is None else Version(body.min_version)
        label = partial(view.classify, given.queries, body.alpha, body.risk, body.filter, version)
        found = await galleries.run("classify", label)
    data = [
        {"index": index, "query": about, **_classified(answer)}
        for index, (answer, about) in enumerate(zip(found.answers, given.about, strict=True))
    ]
    about = {"version": found.version, "exact": found.exact, "calibration": found.calibration}
    return json_response({**about, "data": data, "timing": _timing(exchange, given, begun)})


def _neighbours(found: Found, given: Asked, view: View, itself: Sequence[str] | None, k: int) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = [
        {"index": index, "query": about, "neighbours": []} for index, about in enumerate(given.about)
    ]
    for row in found.rows.to_pylist():
        query = row.pop("query")
        neighbours = data[query]["neighbours"]
        if len(neighbours) < k and (itself is None or row["id"] != itself[query]):
            neighbours.append(row_as_json(row, view.gallery.spec))
    return data


def _classified(answer: Classified) -> dict[str, Any]:
    said = dict(vars(answer))
    low, high, names, similarity = (said.pop(key) for key in ("low", "high", "neighbours", "similarity"))
    said["interval"] = None if low is None else [low, high]
    said["neighbours"] = [{"id": id, "similarity": one} for id, one in zip(names, similarity, strict=True)]
    return said


def _timing(exchange: Exchange, given: Asked, begun: float) -> dict[str, float]:
    """Milliseconds of the parts; `decode_ms` is the body, the decoding and what waited for a thread."""
    now = time.monotonic()
    stored = 1000 * (now - begun)
    known = {"queue_ms": 0.0, "inference_ms": 0.0, **given.timing}
    decode = 1000 * (now - exchange.started) - stored - sum(known.values())
    return {"decode_ms": max(0.0, decode), **known, "store_ms": stored}


SEARCH, CLASSIFY = "/v1/galleries/{name}/search", "/v1/galleries/{name}/classify"
SEARCHES = {SEARCH: search, CLASSIFY: classify}
"""Many requests a second; see `DirectRoutes`."""


def add_routes(app: FastAPI) -> None:
    """Put the routes on the application."""
    app.post(SEARCH, **row_schema.asking("Find what is near", row_schema.Searched, SearchBody))(search)
    app.post(CLASSIFY, **row_schema.asking("Label, or abstain", row_schema.Labelled, ClassifyBody))(classify)

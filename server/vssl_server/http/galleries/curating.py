"""What to look at in a gallery: duplicates, odd ones, what to label next, and its map. Each is computed once for a
version of the gallery, apart from all other work, and kept.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vssl_gallery.curating import Places, find_duplicates, find_outliers, map_of, pick_next
from vssl_gallery.duplicates import Group
from vssl_gallery.map import main_directions
from vssl_gallery.view import View
from vssl_server.background.computed import Computed
from vssl_server.http.exchange import json_response
from vssl_server.http.galleries import map_form, schema
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.http.galleries.viewed import answering, galleries_of, view_of
from vssl_server.wire.errors import ApiError, invalid_option

T = TypeVar("T")

MOST = 1000
"""Of the items in an answer."""


class Options(BaseModel):
    """Of a query string; what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class DuplicatesQuery(Options):
    """`GET …/duplicates`."""

    threshold: float = Field(0.98, gt=0, le=1, description="Least cosine of two rows that show the same thing.")
    after: str | None = Field(None, description="`next` of the answer before.")
    limit: int = Field(100, ge=1, le=MOST)


class OutliersQuery(Options):
    """`GET …/outliers`."""

    limit: int = Field(100, ge=1, le=MOST)


class PickQuery(Options):
    """`GET …/pick`."""

    n: int = Field(20, ge=1, le=MOST, description="How many rows to label next.")
    seed: int = Field(0, ge=0, lt=2**32)


class MapQuery(Options):
    """`GET …/map`."""

    method: Literal["auto", "pca", "tsne"] = Field(
        "auto", description="`auto`: the map by t-SNE that a job has made, of an earlier version too, else PCA."
    )
    columns: str = Field("label,uncertainty", max_length=2048, description="Columns, separated by commas.")


async def duplicates(request: Request, name: str, query: Annotated[DuplicatesQuery, Query()]) -> Response:
    """Groups of rows that show the same thing, the largest first. `kept` has the most pixels, then the least
    uncertainty.
    """
    async with answering(request):
        view = await view_of(request, name, "search")
        find = partial(find_duplicates, view.gallery, query.threshold, view.own)
        groups, version = await computed(request, view, ("duplicates", query.threshold), find, _size_of_groups)
    begin = 0 if query.after is None else _after(groups, query.after)
    shown = groups[begin : begin + query.limit]
    more = begin + query.limit < len(groups)
    data = [{"kept": one.kept, "others": one.others, "similarity": min(one.similarity)} for one in shown]
    return json_response({"data": data, "next": _cursor(shown[-1]) if more else None, "version": version})


async def outliers(request: Request, name: str, query: Annotated[OutliersQuery, Query()]) -> Response:
    """The rows that are farthest from all others, the most distant first."""
    async with answering(request):
        view = await view_of(request, name, "search")
        find = partial(find_outliers, view.gallery, MOST, view.own)
        found, version = await computed(request, view, ("outliers",), find, lambda found: 200 * len(found))
    data = [asdict(one) for one in found[: query.limit]]
    return json_response({"data": data, "next": None, "version": version})


async def pick(request: Request, name: str, query: Annotated[PickQuery, Query()]) -> Response:
    """Rows to label next, the most useful first: far from all that is labelled, the uncertain ones before others."""
    async with answering(request):
        view = await view_of(request, name, "search")
        find = partial(pick_next, view.gallery, query.n, query.seed, view.own)
        question = ("pick", query.n, query.seed)
        found, version = await computed(request, view, question, find, lambda found: 100 * len(found))
    return json_response({"data": found, "version": version})


async def show_map(request: Request, name: str, query: Annotated[MapQuery, Query()]) -> Response:
    """The gallery in two dimensions, in a binary form that a browser reads at once."""
    columns = [one for one in dict.fromkeys(query.columns.split(",")) if one not in ("", "id")]
    galleries = galleries_of(request)
    async with answering(request):
        view = await view_of(request, name, "search")
        known = None if query.method == "pca" else galleries.computed.latest(tsne_key(galleries, view))
        if known is not None:
            made_at, drawn = known
        elif query.method == "tsne":
            raise ApiError(404, "no_map", f"gallery {view.gallery.name} has no map by t-SNE; POST …/map makes one")
        else:
            find = partial(map_of, view.gallery, main_directions, view.own)
            drawn, made_at = await computed(request, view, ("pca",), find, size_of_map)
        data = await galleries.run("scan", partial(_written, view, drawn, made_at, columns))
    return Response(data, media_type="application/octet-stream")


async def computed(
    request: Request, view: View, question: Sequence[Hashable], compute: Callable[[], T], size: Callable[[T], int]
) -> tuple[T, int]:
    """The answer for what the view sees now, and the gallery's version. Where it is not there by the deadline, it will
    be for the next who asks.
    """
    return await _kept_in(galleries_of(request).computed, request, view, question, compute, size)


async def summed(
    request: Request, view: View, question: Sequence[Hashable], compute: Callable[[], T], size: Callable[[T], int]
) -> tuple[T, int]:
    """The same of what reads a column or two; it never waits for what may take minutes."""
    return await _kept_in(galleries_of(request).summed, request, view, question, compute, size)


async def _kept_in(
    answers: Computed,
    request: Request,
    view: View,
    question: Sequence[Hashable],
    compute: Callable[[], T],
    size: Callable[[T], int],
) -> tuple[T, int]:
    version = await galleries_of(request).run("version", view.gallery.store.version)
    key = (*question, answers.number(view.gallery), view.own)
    return await answers.get(key, version, compute, size), version


def tsne_key(galleries: Galleries, view: View) -> Hashable:
    """Under which the view's map by t-SNE is kept."""
    return ("tsne", galleries.computed.number(view.gallery), view.own)


def size_of_map(drawn: Places) -> int:
    """In bytes, about."""
    return drawn.map.places.nbytes + drawn.map.mapped.nbytes + sum(60 + len(name) for name in drawn.ids)


def _size_of_groups(groups: list[Group]) -> int:
    return sum(300 + 150 * len(one.others) for one in groups)


def _written(view: View, drawn: Places, made_at: int, columns: Sequence[str]) -> bytes:
    """The map with what the rows' columns hold now."""
    refused = {"embedding", "variance", "thumbnail", "meta"} & set(columns)
    if refused:
        raise invalid_option(f"columns: {min(refused)} is no category and no number", "columns")
    version = view.gallery.store.version()
    batches = list(view.scan(None, columns))
    if not batches:
        return map_form.to_bytes(_about(drawn, made_at, version, 0), drawn.map.places[:0], _no_ids(), {})
    # A store hands rows out as they lie, which is another order after each write: the same map is the same bytes.
    rows = pa.Table.from_batches(batches).sort_by("id")
    at = pc.index_in(rows["id"], value_set=pa.array(drawn.ids, pa.string()))
    there = rows.filter(at.is_valid())
    places = drawn.map.places[at.drop_null().to_numpy()]
    about = _about(drawn, made_at, version, rows.num_rows - there.num_rows)
    return map_form.to_bytes(about, places, there["id"], {name: there[name] for name in columns})


def _about(drawn: Places, made_at: int, version: int, missing: int) -> dict[str, Any]:
    return {"method": drawn.map.method, "version": version, "stale": made_at != version, "missing": missing}


def _no_ids() -> pa.ChunkedArray:
    return pa.chunked_array([], pa.string())


def _cursor(group: Group) -> str:
    return f"{len(group.others)}:{group.kept}"


def _after(groups: Sequence[Group], cursor: str) -> int:
    """The place of the first group behind a cursor, also where the gallery has changed since."""
    others, colon, kept = cursor.partition(":")
    if not colon or not others.isdecimal() or len(others) > 9:
        raise invalid_option("after: take `next` of the answer before", "after")
    return next(
        (at for at, one in enumerate(groups) if (-len(one.others), one.kept) > (-int(others), kept)), len(groups)
    )


def add_routes(app: FastAPI) -> None:
    """Put the routes on the application."""
    front = "/v1/galleries/{name}"
    app.get(f"{front}/duplicates", **schema.route("Rows that show the same thing", schema.DuplicateList))(duplicates)
    app.get(f"{front}/outliers", **schema.route("The odd ones", schema.OutlierList))(outliers)
    app.get(f"{front}/pick", **schema.route("What to label next", schema.Picked))(pick)
    app.get(f"{front}/map", **schema.MAP)(show_map)

"""The rows of a gallery: listed, read, changed, deleted and counted."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vssl_gallery.errors import InvalidRows
from vssl_gallery.gallery import MAX_IDS
from vssl_gallery.histogram import histogram
from vssl_gallery.images import meta_text, typed
from vssl_gallery.store.columns import kinds
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.filters import Filter, ids
from vssl_gallery.view import View
from vssl_server.access.galleries import may
from vssl_server.http.exchange import json_response
from vssl_server.http.galleries import row_schema, schema
from vssl_server.http.galleries.curating import Options, summed
from vssl_server.http.galleries.ordering import Order, ordered_rows
from vssl_server.http.galleries.row_form import columns_of, no_row, row_as_json, rows_as_json
from vssl_server.http.galleries.viewed import answering, body_of, filter_document, galleries_of, key_of, view_of
from vssl_server.wire.errors import ApiError, clipped, invalid_option
from vssl_server.wire.json_body import check

MOST_VALUES = 1000
"""Of `counts`; the commonest."""

SHA256 = re.compile("[0-9a-f]{64}")

MAX_FIELDS = 64
MAX_META_KEYS = 4096

Page = tuple[list[dict[str, Any]], str | None]
"""Rows as JSON, and the cursor behind them."""


class ListQuery(Options):
    """`GET …/images`."""

    after: str | None = Field(None, max_length=4096, description="`next` of the answer before.")
    offset: int = Field(0, ge=0, le=2**53, description="How many rows to pass over first; not together with `after`.")
    limit: int = Field(100, ge=1, le=1000)
    filter: str | None = Field(None, description="A filter as JSON.")
    columns: str | None = Field(None, max_length=4096, description="Separated by commas; by default all short ones.")
    sort: Literal["id", "uncertainty", "novelty", "familiarity", "added_at"] = "id"
    order: Order = "asc"


class RowQuery(Options):
    """A row by its id, which may hold slashes."""

    id: str = Field(max_length=1024)


class CountsQuery(Options):
    """`GET …/counts`."""

    by: str | None = None
    filter: str | None = None


class HistogramQuery(Options):
    """`GET …/histogram`."""

    column: str = "uncertainty"
    bins: int = Field(40, ge=1, le=1000)
    filter: str | None = None


class Change(BaseModel):
    """What a row gets; what is absent stays, and null empties."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: str | None = None
    meta: Any = None
    fields: dict[str, Any] = {}


class ChangeSome(BaseModel):
    """The same for several rows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ids: list[str] = Field(min_length=1)
    label: str | None = None
    fields: dict[str, Any] = {}


class Delete(BaseModel):
    """Which rows: `ids` or `filter`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ids: list[str] | None = None
    filter: dict[str, Any] | None = None
    dry_run: bool = False


async def list_rows(request: Request, name: str, query: Annotated[ListQuery, Query()]) -> Response:
    """Rows page by page, by id or by a number."""
    galleries = galleries_of(request)
    if query.offset and query.after is not None:
        raise invalid_option("offset: give it or after, not both", "offset")
    async with answering(request):
        view = await view_of(request, name, "search")
        columns = columns_of(view.gallery.spec, query.columns)
        where = view.gallery.parse(filter_document(query.filter))
        if query.sort == "id" and query.order == "asc" and not query.offset:
            version: int = await galleries.run("version", view.gallery.store.version)
            read = partial(_page, view, query, where, columns)
        else:
            question = ("order", query.sort, query.order, query.filter)
            sort = partial(ordered_rows, view, query.sort, query.order, where)
            ordered, version = await summed(request, view, question, sort, lambda found: found.nbytes)
            read = partial(_rows_at, view, *ordered.page(query.after, query.limit, query.offset), columns)
        data, after = await galleries.run("page", read)
    return json_response({"data": data, "next": after, "version": version})


async def show_row(request: Request, name: str, query: Annotated[RowQuery, Query()]) -> Response:
    """One row, without its vectors and its thumbnail."""
    async with answering(request):
        return json_response(await _row(request, await view_of(request, name, "search"), query.id))


async def change_row(request: Request, name: str, query: Annotated[RowQuery, Query()]) -> Response:
    """Set the label, the meta or fields of a row. A key that may not read is shown what it has set, and no more."""
    wanted = await body_of(request, nulls=True, fields=MAX_FIELDS, meta=MAX_META_KEYS)
    change = check(Change, wanted)
    async with answering(request):
        view = await view_of(request, name, "write")
        values = _values(change, wanted, view.gallery.spec)
        done = await galleries_of(request).run("change", partial(view.change, [query.id], values))
        if done.rows == 0:
            raise no_row(query.id)
        reads = "search" in may(key_of(request), view.gallery.name)
        return json_response(await _row(request, view, query.id, None if reads else list(values)))


async def delete_row(request: Request, name: str, query: Annotated[RowQuery, Query()]) -> Response:
    """Delete a row, with its label and thumbnail."""
    async with answering(request):
        view = await view_of(request, name, "write")
        done = await galleries_of(request).run("delete", partial(view.delete, ids([query.id])))
        if done.rows == 0:
            raise no_row(query.id)
    return json_response({"version": done.version, "rows": done.rows})


async def show_thumbnail(request: Request, name: str, query: Annotated[RowQuery, Query()]) -> Response:
    """A small JPEG, drawn anew from the image when it was added."""
    async with answering(request):
        view = await view_of(request, name, "search")
        rows = await galleries_of(request).run("rows", partial(view.rows, [query.id], ["sha256", "thumbnail"]))
    if not rows.num_rows:
        raise no_row(query.id)
    row = rows.to_pylist()[0]
    if row["thumbnail"] is None:
        raise ApiError(404, "no_thumbnail", f"row {clipped(query.id, 200)!r} has no thumbnail", "id")
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    if SHA256.fullmatch(row["sha256"] or ""):  # rows that come embedded may hold any text
        headers["ETag"] = f'"{row["sha256"]}"'
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
    return Response(row["thumbnail"], media_type="image/jpeg", headers=headers)


async def change_rows(request: Request, name: str) -> Response:
    """Set the label or fields of several rows; rows that are not there are passed over."""
    given = await body_of(request, nulls=True, fields=MAX_FIELDS, ids=MAX_IDS)
    wanted = check(ChangeSome, given)
    async with answering(request):
        view = await view_of(request, name, "write")
        values = _values(wanted, given, view.gallery.spec)
        done = await galleries_of(request).run("change", partial(view.change, wanted.ids, values))
    return json_response({"version": done.version, "rows": done.rows})


async def delete_rows(request: Request, name: str) -> Response:
    """Delete rows by ids or by a filter; `dry_run` says how many there would be."""
    wanted = check(Delete, await body_of(request, ids=MAX_IDS))
    if (wanted.ids is None) == (wanted.filter is None):
        raise invalid_option("name ids or a filter, and not both", "ids")
    where: Any = wanted.filter if wanted.ids is None else ids(wanted.ids)
    async with answering(request):
        view = await view_of(request, name, "write")
        done = await galleries_of(request).run("delete", partial(view.delete, where, wanted.dry_run))
    return json_response({"version": done.version, "rows": done.rows, "dry_run": wanted.dry_run})


async def count_rows(request: Request, name: str, query: Annotated[CountsQuery, Query()]) -> Response:
    """How many rows there are, or how many of each value of a column."""
    galleries = galleries_of(request)
    async with answering(request):
        view = await view_of(request, name, "search")
        where = view.gallery.parse(filter_document(query.filter))
        version: int = await galleries.run("version", view.gallery.store.version)
        if query.by is None:
            rows = await galleries.run("count", partial(view.count, where))
            return json_response({"rows": rows, "version": version})
        if kinds(view.gallery.spec.fields).get(query.by) not in ("text", "integer", "boolean"):
            raise invalid_option("by: name a column of texts, integers or booleans", "by")
        count = partial(view.count_by, query.by, where)
        question = ("counts", query.by, query.filter)
        counts, version = await summed(request, view, question, count, lambda found: 100 * len(found))
    found = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MOST_VALUES]
    data = [{"value": value, "rows": rows} for value, rows in found]
    return json_response({"by": query.by, "data": data, "version": version})


async def show_histogram(request: Request, name: str, query: Annotated[HistogramQuery, Query()]) -> Response:
    """How the numbers of a column lie."""
    async with answering(request):
        view = await view_of(request, name, "search")
        if kinds(view.gallery.spec.fields).get(query.column) not in ("single", "number", "integer"):
            raise invalid_option("column: name a column of numbers", "column")
        where = view.gallery.parse(filter_document(query.filter))
        question = ("histogram", query.column, query.bins, query.filter)
        count = partial(_histogram, view, query.column, query.bins, where)
        found, version = await summed(request, view, question, count, lambda _: 16 * query.bins)
    return json_response({"column": query.column, **found, "version": version})


async def _row(request: Request, view: View, name: str, columns: list[str] | None = None) -> dict[str, Any]:
    columns = columns_of(view.gallery.spec, None) if columns is None else columns
    rows = await galleries_of(request).run("rows", partial(view.rows, [name], columns))
    if not rows.num_rows:
        raise no_row(name)
    return row_as_json(rows.to_pylist()[0], view.gallery.spec)


def _values(wanted: Change | ChangeSome, given: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """The columns to set: null, where it was said, empties one."""
    if unknown := wanted.fields.keys() - spec.fields.keys():
        raise InvalidRows(f"field {clipped(min(unknown), 100)!r} is none of this gallery's; put it into meta")
    values = {name: typed(name, spec.fields[name], value) for name, value in wanted.fields.items()}
    if "label" in given:
        values["label"] = wanted.label or None
    if isinstance(wanted, Change) and "meta" in given:
        values["meta"] = meta_text(wanted.meta)
    if not values:
        raise invalid_option("nothing to change: name label, meta or fields", "body")
    return values


def _page(view: View, query: ListQuery, where: Filter | None, columns: list[str]) -> Page:
    rows = view.page(query.after, query.limit + 1, where, columns)
    data = rows_as_json(rows.slice(0, query.limit), view.gallery.spec)
    return data, data[-1]["id"] if rows.num_rows > query.limit else None


def _rows_at(view: View, ids: list[str], after: str | None, columns: list[str]) -> Page:
    return rows_as_json(view.rows(ids, columns), view.gallery.spec), after


def _histogram(view: View, column: str, bins: int, where: Filter | None) -> dict[str, Any]:
    parts = [batch[column].to_numpy(zero_copy_only=False).astype(np.float64) for batch in view.scan(where, [column])]
    every = np.concatenate(parts) if parts else np.zeros(0)
    edges, rows = histogram(every, bins)
    return {"edges": edges, "rows": rows, "nulls": len(every) - int(rows.sum())}


def _by_path(answer: Callable[[Request, str, RowQuery], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """The same route with the id in its path, where its slashes may stand as they are."""

    async def route(request: Request, name: str, id: str) -> Response:
        return await answer(request, name, RowQuery.model_construct(id=id))

    return route


def add_routes(app: FastAPI) -> None:
    """Put the routes on the application."""
    front = "/v1/galleries/{name}"
    said = schema.route
    app.get(f"{front}/images", **said("The rows, page by page", row_schema.RowList))(list_rows)
    app.patch(f"{front}/images", **said("Label several rows", row_schema.Written, body=ChangeSome))(change_rows)
    app.get(f"{front}/row", **said("One row", row_schema.Row))(show_row)
    app.patch(f"{front}/row", **said("Change a row", row_schema.Row, body=Change))(change_row)
    app.delete(f"{front}/row", **said("Delete a row", row_schema.Written))(delete_row)
    app.get(f"{front}/thumbnail", **row_schema.THUMBNAIL)(show_thumbnail)
    for path, route, answer in (
        ("images/{id:path}/thumbnail", app.get, show_thumbnail),
        ("images/{id:path}", app.get, show_row),
        ("images/{id:path}", app.patch, change_row),
        ("images/{id:path}", app.delete, delete_row),
    ):
        route(f"{front}/{path}", include_in_schema=False)(_by_path(answer))
    app.post(f"{front}/delete", **said("Delete rows", row_schema.Deleted, body=Delete))(delete_rows)
    app.get(f"{front}/counts", **said("Count rows", row_schema.Counts))(count_rows)
    app.get(f"{front}/histogram", **said("How numbers lie", row_schema.Histogram))(show_histogram)

"""The rows of a gallery as a file, sent while they are read."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vssl_gallery.exporting import FileKind, exported
from vssl_server.http.galleries import schema
from vssl_server.http.galleries.curating import Options
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.http.galleries.viewed import answering, filter_document, galleries_of, view_of

MEDIA_TYPES: dict[FileKind, str] = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
PIECE_BYTES = 256 * 1024
"""That are read before they are sent, about."""


class ExportQuery(Options):
    """`GET …/export`."""

    format: FileKind = Field("csv", description="CSV has no vectors and no thumbnails.")
    filter: str | None = Field(None, description="A filter as JSON.")


async def export(request: Request, name: str, query: Annotated[ExportQuery, Query()]) -> Response:
    """The rows that match, in no order. Where reading fails in the middle, the connection ends before the file does."""
    galleries = galleries_of(request)
    async with answering(request):
        view = await view_of(request, name, "search")
        pieces = exported(view, query.format, view.parse(filter_document(query.filter)))
        first = await galleries.run("scan", lambda: _several(pieces))
    headers = {"Content-Disposition": f'attachment; filename="{view.gallery.name}.{query.format}"'}
    rest = _sent(galleries, b"" if request.method == "HEAD" else first, pieces)
    return StreamingResponse(rest, headers=headers, media_type=MEDIA_TYPES[query.format])


async def _sent(galleries: Galleries, first: bytes, pieces: Iterator[tuple[bytes, int]]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await galleries.run("scan", lambda: _several(pieces))


def _several(pieces: Iterator[tuple[bytes, int]]) -> bytes:
    """The next bytes, enough to be worth a turn; nothing at the end."""
    found, size = [], 0
    for piece, _ in pieces:
        found.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            break
    return b"".join(found)


def add_routes(app: FastAPI) -> None:
    """Put the route on the application."""
    app.get("/v1/galleries/{name}/export", **schema.EXPORT)(export)

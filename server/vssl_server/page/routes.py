"""`/ui/`: the page's files, with headers that keep a browser from loading or running anything else.

The files hold nothing of a gallery, so they need no key: the page asks for one and sends it with each request.
"""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from vssl_server.page.files import read_files

POLICY = (
    "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'"
)
"""Nothing comes from elsewhere, and no text becomes a script. Pictures come as `blob:`, since thumbnails need a key."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The browser keeps the files and asks each time whether they are still these: a new release shows at once.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


def add_routes(app: FastAPI) -> None:
    """Put the page on the application."""
    files = read_files()

    async def page(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None:
            return Response("There is no such file; the page is at /ui/\n", 404, HEADERS, "text/plain")
        headers = HEADERS | {"ETag": file.tag}
        if file.tag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        if file.gzipped is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
            return Response(file.gzipped, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
        return Response(file.body, headers=headers, media_type=file.media_type)

    async def to_page() -> Response:
        # Relative, as a proxy may publish the server under another path.
        return Response(status_code=307, headers=HEADERS | {"Location": "ui/"})

    app.add_api_route("/ui", to_page, methods=["GET"], include_in_schema=False)
    app.add_api_route("/ui/{name:path}", page, methods=["GET"], include_in_schema=False)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.split(","):
        name, _, weight = part.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False

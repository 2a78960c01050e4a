"""All that galleries bring to the application; imported only where a server has galleries."""

from fastapi import FastAPI

from vssl.errors import VsslError
from vssl_server.http.galleries import adding, curating, export, jobs, routes, rows, searching
from vssl_server.http.galleries.galleries import Galleries
from vssl_server.http.galleries.viewed import refused


def add_galleries(app: FastAPI, address: str) -> Galleries:
    """Put their routes on the application, and return them; the caller watches and closes them."""
    for part in (routes, adding, rows, searching, curating, export, jobs):
        part.add_routes(app)
    app.add_exception_handler(VsslError, refused)  # type: ignore[arg-type]
    return Galleries(address)

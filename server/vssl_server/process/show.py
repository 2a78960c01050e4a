"""`vssl open`: a gallery in the browser, served for as long as somebody looks."""

from pathlib import Path
from typing import Annotated

import typer

from vssl.cli import echo


def show(
    name: Annotated[str, typer.Argument(metavar="GALLERY", help="Name of the gallery, or an alias.")],
    bundles: Annotated[
        list[Path] | None, typer.Option("--bundle", help="The bundle that made it; without one, the default model.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Where galleries lie: a folder, s3://…, postgresql://…; by default as `vssl gallery`."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on, 0 for a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the browser; else only say the address.")] = True,
) -> None:
    """Show a gallery in the browser: serve its page on 127.0.0.1 until Ctrl-C."""
    from urllib.parse import quote

    from vssl.bundle.default import default_bundle, located
    from vssl_gallery.store.opening import default_address
    from vssl_server.process.serve import run
    from vssl_server.settings import load_settings

    address = at or default_address()
    locations = [located(bundle) for bundle in bundles] if bundles else [default_bundle()]
    _check(address, name, locations)

    def listening(_: str, server: str) -> None:
        page = f"{server}/ui/#/{quote(name)}"
        echo(f"vssl: {name} is at {page} until Ctrl-C", err=True)
        if browser:
            _open_browser(page)

    settings = {"host": "127.0.0.1", "port": port, "workers": 1, "galleries": address, "ui": True}
    run(locations, load_settings(settings), listening)


def _check(address: str, name: str, locations: list[Path]) -> None:
    """Say before anything is served that a gallery is not there, or that no bundle made it.

    Raises:
        GalleryError: there is no such gallery, or its store is away.
    """
    from contextlib import closing

    from vssl.bundle.reading import open_bundle
    from vssl_gallery.store.opening import open_place

    with closing(open_place(address)) as place, closing(place.open(name)) as store:
        spec = store.info().spec
    encoders = [open_bundle(location).manifest.encoder_id for location in locations]
    if spec.encoder_id not in encoders:
        made = f"{spec.model} {spec.model_version}".strip() or "another model"
        echo(f"vssl: {name} was made by {made}: name its bundle to --bundle, or no new image can be asked", err=True)


def _open_browser(page: str) -> None:
    """In a thread: a browser of the terminal keeps its caller waiting."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

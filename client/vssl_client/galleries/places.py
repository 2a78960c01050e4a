"""Where galleries lie."""

import os
from pathlib import Path
from typing import Self

from platformdirs import user_data_path

from vssl_gallery.gallery import Gallery
from vssl_gallery.store.contract import Place, Store
from vssl_gallery.store.opening import open_place

VARIABLE = "VSSL_GALLERIES"


def default_address() -> str:
    """The place in the variable VSSL_GALLERIES, else a folder among the user's data."""
    return os.environ.get(VARIABLE) or str(Path(user_data_path("vssl", appauthor=False), "galleries"))


def open_galleries(at: str | None) -> Place:
    """The place at an address, by default the `default_address`. Errors as `open_place`."""
    return open_place(at or default_address())


def open_gallery(name: str, at: str | None = None) -> "OpenGallery":
    """A gallery by its name or alias; closes its place with itself. Errors as `open_place` and `Place.open`."""
    place = open_galleries(at)
    try:
        return OpenGallery(place, place.open(name))
    except BaseException:
        place.close()
        raise


class OpenGallery(Gallery):
    """A gallery that has a place of its own; use it in a `with` statement."""

    def __init__(self, place: Place, store: Store) -> None:
        super().__init__(store)
        self._place = place

    def close(self) -> None:
        """Let go of files and connections."""
        super().close()
        self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""LanceDB's errors as ours. It has no types for them, so that only their text tells what happened."""

from collections.abc import Iterator
from contextlib import contextmanager

from vssl.errors import VsslError
from vssl_gallery.errors import StoreFull, StoreUnavailable, UnknownGallery

FULL = (
    "No space left on device",
    "os error 28",
    "Disk quota exceeded",
    "os error 122",
    "File too large",
    "os error 27",
)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise what LanceDB raises as our errors, with the place `where` it happened.

    Raises:
        StoreFull: the disk is full.
        UnknownGallery: somebody has dropped it.
        StoreUnavailable: anything else: no answer, no permission, a file that is gone.
    """
    try:
        yield
    except VsslError:
        raise
    except Exception as error:  # RuntimeError, ValueError and OSError alike
        text = str(error) or type(error).__name__
        if "Not found" in text and "/_versions" in text:
            raise UnknownGallery(f"{where} is gone; somebody dropped it") from error
        if any(sign in text for sign in FULL):
            raise StoreFull(f"{where}: the disk is full; free some space and do it again") from error
        raise StoreUnavailable(f"{where}: {_first_line(text)}") from error


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0]
    return line if len(line) <= 300 else f"{line[:299]}…"

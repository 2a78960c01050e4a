"""The page's files, read and compressed once, when the server starts."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""HTML, styles and modules as the browser gets them; there is no build."""

SMALL = 256
"""Bytes below which a file is not worth compressing."""


@dataclass(frozen=True)
class File:
    """A file as it goes out."""

    body: bytes
    gzipped: bytes | None
    media_type: str
    tag: str
    """The `ETag`: the same for the same bytes."""


def read_files(folder: Path = STATIC) -> dict[str, File]:
    """All files under the folder by their path in it; `index.html` is the empty path too.

    In memory, so that nothing that a browser names is ever looked up on the disk.
    """
    files = {path.relative_to(folder).as_posix(): _read(path) for path in folder.rglob("*") if path.is_file()}
    return files | ({"": files["index.html"]} if "index.html" in files else {})


def _read(path: Path) -> File:
    body = path.read_bytes()
    # Not `mimetypes` alone: a machine may have its own ideas, and a browser runs modules of the right type only.
    known = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    media_type = known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    smaller = gzip.compress(body, 9, mtime=0) if len(body) > SMALL else body
    return File(
        body, smaller if len(smaller) < len(body) else None, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    )

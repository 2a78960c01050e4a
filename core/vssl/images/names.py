"""File names: which are images, which are hidden, which class a path names, and how to write any name as valid text."""

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec

HEIC = frozenset({".heic", ".heif", ".hif"})
HEIC_IS_READ = find_spec("pillow_heif") is not None
"""Whether the extra `heif` is installed; else files of these names are passed over."""

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
    | (HEIC if HEIC_IS_READ else frozenset())
)
"""Extensions of the files that the decoder reads. It refuses the contents of `.apng`, `.avifs` and `.pfm`."""


def encode_name(name: str) -> str:
    r"""A file name as valid text: bytes that are no UTF-8 become `\udcXX`, and a backslash becomes two."""
    return re.sub(r"\\|[\udc80-\udcff]", lambda found: "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}", name)


def decode_name(text: str) -> str:
    """The inverse of `encode_name`."""
    return re.sub(r"\\\\|\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)) if found[1] else "\\", text)


def printable(text: str) -> str:
    """The text with control characters, except tab and line feed, escaped as in JSON: no name may drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else json.dumps(c)[1:-1] for c in text)


def is_image(name: str) -> bool:
    """Whether the file has an image's extension."""
    return extension_of(name) in EXTENSIONS


def hidden(name: str) -> bool:
    """Whether a system left the file behind: a dot file, or one in a `__MACOSX` folder of an archive."""
    return name.startswith(".") or "/." in name or ("__MACOSX" in name and "__MACOSX" in name.split("/"))


def extension_of(path: str) -> str:
    """The extension in lower case, with its dot. `PurePath.suffix` gives the same and takes ten times as long."""
    name = path[path.rfind("/") + 1 :]
    place = name.rfind(".")
    return name[place:].lower() if 0 < place < len(name) - 1 else ""


def labels_of(paths: list[str]) -> tuple[list[int], list[str]] | None:
    """Class of each image by its top folder: indices, and the sorted class names.

    None unless every image lies in one of at least two top folders.
    """
    return numbered([path.split("/")[0] if "/" in path else None for path in paths])


def numbered(labels: Sequence[str | None]) -> tuple[list[int], list[str]] | None:
    """Labels as indices, and the sorted names; None unless every image has one, of at least two."""
    names = sorted({label for label in labels if label is not None})
    if None in labels or len(names) < 2:
        return None
    index = {name: number for number, name in enumerate(names)}
    return [index[label] for label in labels if label is not None], names

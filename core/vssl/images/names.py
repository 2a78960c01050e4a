"""File names: which are images, which are hidden, what class they tell, and how they are written as valid text."""

import json
import re
from collections.abc import Sequence

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Of files that the decoder reads; `.apng`, `.avifs` and `.pfm` hold what it refuses."""


def encode_name(name: str) -> str:
    r"""A file name as valid text: bytes that are no UTF-8 become `\udcXX`, and a backslash becomes two."""
    return re.sub(r"\\|[\udc80-\udcff]", lambda found: "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}", name)


def decode_name(text: str) -> str:
    """The inverse of `encode_name`."""
    return re.sub(r"\\\\|\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)) if found[1] else "\\", text)


def printable(text: str) -> str:
    """The text with control characters but tab and line feed escaped as in JSON: no name may drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else json.dumps(c)[1:-1] for c in text)


def is_image(name: str) -> bool:
    """Whether the file's extension is one of an image."""
    return extension_of(name) in EXTENSIONS


def hidden(name: str) -> bool:
    """Files that systems leave behind: dot files, and macOS's `__MACOSX` folders in archives."""
    return name.startswith(".") or "/." in name or ("__MACOSX" in name and "__MACOSX" in name.split("/"))


def extension_of(path: str) -> str:
    """As `PurePath.suffix` has it, which takes ten times as long."""
    name = path[path.rfind("/") + 1 :]
    place = name.rfind(".")
    return name[place:].lower() if 0 < place < len(name) - 1 else ""


def labels_of(paths: list[str]) -> tuple[list[int], list[str]] | None:
    """Class of each image, where every image lies in one of at least two top folders; else there are no labels.

    Returns indices and the sorted class names.
    """
    return numbered([path.split("/")[0] if "/" in path else None for path in paths])


def numbered(labels: Sequence[str | None]) -> tuple[list[int], list[str]] | None:
    """Labels as indices, and the sorted names; None unless every image has one, of at least two."""
    names = sorted({label for label in labels if label is not None})
    if None in labels or len(names) < 2:
        return None
    index = {name: number for number, name in enumerate(names)}
    return [index[label] for label in labels if label is not None], names

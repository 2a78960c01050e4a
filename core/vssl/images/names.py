"""File names as valid text, and back."""

import json
import re


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

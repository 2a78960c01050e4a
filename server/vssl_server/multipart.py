"""The files of a multipart form, cut out of a whole body.

Only the plain form that clients write is read here, at a fraction of the time of Starlette's parser, which reports each
piece of each header. Whatever looks unusual is left to that one.
"""

import re
from typing import NamedTuple

_TYPE = re.compile(r'multipart/form-data; ?boundary=("?)([0-9A-Za-z\'()+_,./:=?-]{1,70})\1')
_TEXT = rb"([ !#-\[\]-~]{0,1000})"  # ASCII without quotes and backslashes
_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="' + _TEXT + rb'"; filename="' + _TEXT + rb'"'
    rb"(?:\r\nContent-Type: [ -~]{0,200})?\r\n\r\n"
)  # fmt: skip


class File(NamedTuple):
    """One part."""

    name: str
    filename: str
    data: bytes


def cut(content_type: str, body: bytes, most: int) -> list[File] | None:
    """At most so many files of a form that holds nothing else, or None: let Starlette's parser judge it."""
    kind = _TYPE.fullmatch(content_type)
    if kind is None:
        return None
    delimiter = b"\r\n--" + kind[2].encode()
    if not body.startswith(delimiter[2:]):
        return None
    files: list[File] = []
    at = len(delimiter) - 2
    while (head := _HEAD.match(body, at)) and len(files) < most:
        end = body.find(delimiter, head.end())
        if end < 0:
            return None
        files.append(File(head[1].decode(), head[2].decode(), body[head.end() : end]))
        at = end + len(delimiter)
    return files if body[at:] in (b"--", b"--\r\n") else None

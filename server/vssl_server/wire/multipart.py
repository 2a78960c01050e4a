"""The parts of a multipart form, taken out of the whole body.

A form that is cut short is an error, wherever that is: its closing boundary is missing. Libraries that read a form as
it comes return the files that they have seen.
"""

import re
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import HeaderParser
from email.utils import collapse_rfc2231_value
from typing import NamedTuple

from vssl_server.wire.errors import ApiError

MAX_HEAD = 16 * 1024
"""Bytes of one part's headers."""

_TYPE = re.compile(r"multipart/form-data; ?boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})")
_BREAKS = re.compile(rb"[\r\n]*")
_LINE_END = re.compile(rb"[ \t]*\r\n")
_CLOSED = re.compile(rb"--[ \t]*(\r\n|\Z)")
_TEXT = rb"([ !#-\[\]-~]{0,1000})"  # ASCII without quotes and backslashes
_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="' + _TEXT + rb'"; filename="' + _TEXT + rb'"'
    rb"(?:\r\nContent-Type: [ -~]{0,200})?\r\n\r\n"
)  # fmt: skip
"""The head that most clients write. Any other goes through the parser of e-mails, which takes twenty times as long."""


class Part(NamedTuple):
    """One part. `filename` is None where it has none: it is a field, not a file."""

    name: str
    filename: str | None
    data: bytes


def parse_form(content_type: str, body: bytes, most: int) -> list[Part] | None:
    """All parts of a form, in order; None if there are more than `most`.

    Raises:
        ApiError: 400, it is no form, or not a whole one.
    """
    delimiter = b"\r\n--" + _boundary(content_type)
    at = _BREAKS.match(body).end()  # type: ignore[union-attr]
    if not body.startswith(delimiter[2:], at):
        raise _invalid("it does not begin with its boundary")
    at += len(delimiter) - 2
    parts: list[Part] = []
    filename: str | None
    while not body.startswith(b"--", at):
        if len(parts) == most:
            return None
        if plain := _HEAD.match(body, at):
            name, filename, start = plain[1].decode(), _decoded(plain[2].decode()), plain.end()
        else:
            name, filename, start = _head(body, at, delimiter)
        end = body.find(delimiter, start)
        if end < 0:
            raise _invalid(f"part {len(parts) + 1} has no end: the body is cut short, or lacks its closing boundary")
        parts.append(Part(name, filename, body[start:end]))
        at = end + len(delimiter)
    if not _CLOSED.match(body, at) or body.find(delimiter, at) >= 0:
        raise _invalid("it goes on after its closing boundary")
    return parts


def _head(body: bytes, at: int, delimiter: bytes) -> tuple[str, str | None, int]:
    """The two names of the part whose boundary ends at `at`, and where its data begin."""
    line = _LINE_END.match(body, at)
    start = line.end() if line else at
    end = body.find(b"\r\n\r\n", start, start + MAX_HEAD)
    if line is None or end < 0 or body.find(delimiter, start, end) >= 0:
        raise _invalid("the headers of a part have no end")
    head = body[start:end]
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    message = HeaderParser().parsestr(text)
    if message.get_content_disposition() != "form-data" or (name := _parameter(message, "name")) is None:
        raise _invalid('a part has no header Content-Disposition: form-data; name="…"')
    filename = _parameter(message, "filename")
    return name, None if filename is None else _decoded(filename), end + 4


def _boundary(content_type: str) -> bytes:
    if plain := _TYPE.fullmatch(content_type):
        return plain[1].encode()
    message = Message()
    message["content-type"] = content_type
    found = _parameter(message, "boundary", "content-type")
    if found is None or not 0 < len(found) <= 200 or not found.isascii():
        raise _invalid("Content-Type names no boundary")
    return found.encode()


def _parameter(message: Message, name: str, header: str = "content-disposition") -> str | None:
    """A parameter of a header, also in the form of RFC 2231: `filename*=UTF-8''%c3%a4.png`."""
    try:
        found = message.get_param(name, header=header)
    except (ValueError, IndexError):
        raise _invalid(f"{header} can't be read") from None
    return None if found is None else _text(collapse_rfc2231_value(found))


def _decoded(name: str) -> str:
    """A name that may be in the form of RFC 2047: `=?UTF-8?B?w6QucG5n?=`."""
    if "=?" not in name or not name.isascii():
        return name
    try:
        pieces = decode_header(name)
        texts = [piece if isinstance(piece, str) else piece.decode(charset or "latin-1") for piece, charset in pieces]
    except (ValueError, LookupError, HeaderParseError):  # no base64, no text of that charset, no such charset
        return name
    return _text("".join(texts))


def _text(text: str) -> str:
    """Some charsets give lone surrogates, which JSON can't hold."""
    return text.encode(errors="replace").decode()


def _invalid(problem: str) -> ApiError:
    return ApiError(400, "invalid_multipart", f"the multipart body can't be read: {problem}")

"""A request's body: read whole, unpacked where it is packed, and bounded in both forms."""

import asyncio
import zlib

from starlette.requests import ClientDisconnect, Request

from vssl_server.wire.capacity import HELD, Held
from vssl_server.wire.errors import ApiError, clipped

FREE_BYTES = 64 * 1024
RATIO = 20
"""JSON may unpack to `RATIO` times its packed size, or to `FREE_BYTES`. Base64 and numbers stay below that."""

MAX_MEMBERS = 4096
"""Members of one gzip body. bgzip and pigz write several, and each costs as much as a small body."""

_STEP, _PIECE = 64 * 1024, 1024 * 1024
"""Bytes that go into the decompressor at once, and the most that come out."""


def media_type(request: Request) -> str:
    """The Content-Type in lower case, without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, max_bytes: int) -> bytes:
    """The whole body of a request whose Content-Type is JSON; not parsed yet.

    Raises:
        ApiError: 400, 413, 415 or 429.
        ClientDisconnect: the client went away while sending.
    """
    kind = media_type(request)
    if kind != "application/json":
        message = f"Content-Type {clipped(kind, 100) or 'is missing'}: send application/json"
        raise ApiError(415, "unsupported_media_type", message)
    return await read_body(request, max_bytes, None)


async def read_body(request: Request, max_bytes: int, json_bytes: int | None = 0) -> bytes:
    """The whole body, unpacked; the limit is for both forms.

    Args:
        request: its body has not been read.
        max_bytes: the limit.
        json_bytes: how many of the unpacked body's first bytes are JSON; None: all. JSON must not be packed too well.

    Raises:
        ApiError: 400, 413, 415 or 429.
        ClientDisconnect: the client went away while sending.
    """
    encoding = _encoding(request)
    body = await _read(request, max_bytes)
    if encoding is None:
        return body
    most = max(FREE_BYTES, RATIO * len(body))
    if json_bytes is not None and json_bytes > most:
        raise _too_packed(len(body), most)
    held: Held | None = request.scope.get(HELD)
    return await asyncio.to_thread(_unpack, body, encoding, max_bytes, most if json_bytes is None else None, held)


def _encoding(request: Request) -> str | None:
    given = ", ".join(request.headers.getlist("content-encoding"))
    steps = [step for part in given.split(",") if (step := part.strip().lower()) not in ("", "identity")]
    if not steps:
        return None
    if steps in (["gzip"], ["x-gzip"]):
        return "gzip"
    if steps == ["deflate"]:
        return "deflate"
    raise ApiError(415, "unsupported_encoding", f"Content-Encoding {clipped(given, 100)}: send gzip, deflate or none")


async def _read(request: Request, max_bytes: int) -> bytes:
    # A chunked body announces no length.
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise _too_long(max_bytes)
    chunks: list[bytes] = []
    total, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        total += len(chunk)
        if total > max_bytes:
            raise _too_long(max_bytes)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unpack(body: bytes, encoding: str, max_bytes: int, most: int | None, held: Held | None) -> bytes:
    """Unpack the body to at most `max_bytes`, and to at most `most` where it is given.

    Both encodings are deflate inside; 15 + 32: the header says which. A gzip body may have several members.
    """
    limit = max_bytes if most is None else min(max_bytes, most)
    pieces: list[bytes] = []
    total, start, members, rest = 0, 0, 1, b""
    stream = zlib.decompressobj(15 + 32)
    while rest or start < len(body) or not pieces:
        if not rest:
            rest, start = body[start : start + _STEP], start + _STEP
        try:
            piece = stream.decompress(rest, min(_PIECE, limit + 1 - total))
        except zlib.error as error:
            raise ApiError(400, "invalid_encoding", f"the body is not {encoding}: {error}") from None
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise _too_long(max_bytes) if limit == max_bytes else _too_packed(len(body), limit)
        if held is not None:
            held.reach(total)
        rest = stream.unused_data if stream.eof else stream.unconsumed_tail
        if stream.eof and (rest or start < len(body)):
            if encoding != "gzip" or members == MAX_MEMBERS:
                raise ApiError(400, "invalid_encoding", f"the {encoding} body goes on after its end")
            stream, members = zlib.decompressobj(15 + 32), members + 1
    if not stream.eof:
        raise ApiError(400, "invalid_encoding", f"the {encoding} body is cut short")
    return b"".join(pieces)


def _too_long(max_bytes: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the body is over the limit of {max_bytes:,} bytes")


def _too_packed(packed: int, limit: int) -> ApiError:
    message = f"the {packed:,} bytes of JSON unpack to over {limit:,}, {RATIO} times as many; send them less packed"
    return ApiError(413, "body_too_large", message)

"""What a client may do to a server by mistake or on purpose, each a small function, and the answers that it may get."""

import asyncio
import base64
import gzip
import io
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.wire import Answer, Connections, answer, answers, head, request
from vssl.engine import Engine
from vssl.images.decoding import Preprocessing, decode
from vssl_server.http.connection import IDLE_SECONDS

MAX_BODY = 2**20
RECEIVE_SECONDS = 2
GRPC_AGE_SECONDS = 10
ADMIN_KEY = "admin"
"""What the server of the soak is told."""

TOLERANCE = 1e-4
"""Between a batch of one and a batch of many."""
ANSWER_BYTES = 2400
"""Most of a refusal, its JSON around it counted."""

EMBED = "/v1/embed?fields=embedding&encoding=base64"
PNG = "Content-Type: image/png"
JSON = ("Content-Type: application/json", "Content-Encoding: gzip", f"Authorization: Bearer {ADMIN_KEY}")
FORM = "Content-Type: multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
INNER = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
"""A body that reads like a request."""
LAST = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class WrongError(Exception):
    """The server did what it must not."""


@dataclass
class Site:
    """A model's name, images, and their embeddings as the engine itself gives them [N, D]; then where it is served."""

    model: str
    files: Sequence[bytes]
    truth: npt.NDArray[np.float32]
    solid: dict[int, npt.NDArray[np.float32]]
    """The embedding [1, D] of a picture of one colour, by its side."""
    connections: Connections = field(init=False)
    grpc: str | None = None
    random: Random = field(default_factory=lambda: Random(0))

    def any(self) -> int:
        """An image's index."""
        return self.random.randrange(len(self.files))


def checked(found: Answer, allowed: Sequence[int], truth: npt.NDArray[np.float32] | None = None) -> str:
    """The answer's status, which must be one of these: that of 200 holds the embeddings [N, D], and all others are
    short. 500 is the engine's failure, and nothing else.
    """
    if found.status not in allowed:
        raise WrongError(f"{found.status} {found.body[:200]!r}")
    if found.status == 200 and truth is not None:
        rows = [base64.b64decode(row["embedding"]) for row in json.loads(found.body)["data"]]
        vectors = np.array([np.frombuffer(row, "<f4") for row in rows])
        if vectors.shape != truth.shape or np.abs(vectors - truth).max() > TOLERANCE:
            raise WrongError("another image's vector")
    if found.status != 200 and len(found.body) > ANSWER_BYTES:
        raise WrongError(f"{found.status} with {len(found.body)} bytes")
    if found.status == 500 and b'"inference_failed"' not in found.body:
        raise WrongError(f"{found.body[:200]!r}")
    return str(found.status)


async def good(site: Site) -> str:
    """No attack: an image, whose embedding must be its own."""
    index = site.any()
    found = await site.connections.ask(request(EMBED, site.files[index], PNG))
    return checked(found, (200, 429, 500), site.truth[index : index + 1])


async def corrupt(site: Site) -> str:
    """A third of an image."""
    body = site.files[site.any()]
    return checked(await site.connections.ask(request(EMBED, body[: len(body) // 3], PNG)), (422, 429))


async def huge(site: Site) -> str:
    """A body that is too large; the server may close before it is all sent."""
    reader, writer = await site.connections.open()
    try:
        writer.write(request(EMBED, bytes(MAX_BODY + 1), PNG))
        return checked(await answer(reader), (413,))
    except (OSError, EOFError):
        return "closed"
    finally:
        writer.close()


async def slow(site: Site) -> str:
    """Half of a body, and the connection held."""
    body = site.files[site.any()]
    return await alone(site, head(EMBED, len(body), PNG) + body[: len(body) // 2], (408,))


async def aborted(site: Site) -> str:
    """Half of a body, and away."""
    body = site.files[site.any()]
    _, writer = await site.connections.open()
    writer.write(head(EMBED, len(body), PNG) + body[: len(body) // 2])
    await writer.drain()
    writer.close()
    return "away"


async def cut(site: Site) -> str:
    """A form of three images that ends anywhere: an error, or all of them if only the last line's end is missing."""
    indices = [site.any() for _ in range(3)]
    whole = b"".join(PART + site.files[index] + b"\r\n" for index in indices) + b"--x--\r\n"
    end = site.random.randrange(1, len(whole))
    allowed = (400, 429) if end < len(whole) - 2 else (200, 400, 429, 500)
    return checked(await site.connections.ask(request(EMBED, whole[:end], FORM)), allowed, site.truth[indices])


async def packed(site: Site) -> str:
    """A few hundred bytes of gzip that unpack to as many bad items as JSON can hold, at any door that takes JSON."""
    path, body = site.random.choice(bombs(site.model))
    return checked(await site.connections.ask(request(path, body, *JSON)), (400, 413, 422))


async def smuggled(site: Site) -> str:
    """An offer to upgrade, and its body, which reads like a request, in a packet of its own: one answer."""
    return await upgrade(site, INNER, (422, 429), None)


async def upgraded(site: Site) -> str:
    """The same with an image, as `curl --http2` and Java's client send it."""
    index = site.any()
    return await upgrade(site, site.files[index], (200, 429, 500), site.truth[index : index + 1])


async def solid(site: Site) -> str:
    """A few kilobytes that are pictures of up to 64 million pixels, some too many for one request."""
    side, count = site.random.choice([(4000, 1), (4000, 16), (8000, 1), (8000, 4), (4000, 60)])
    truth = np.repeat(site.solid[side], count, axis=0)
    # On a machine that is busy otherwise the deadline may come first.
    allowed = (413, 429) if side * side * count > 256e6 else (200, 429, 500, 504)
    return checked(await site.connections.ask(solids(side, count)), allowed, truth)


async def half_head(site: Site) -> str:
    """A connection held by half of a head."""
    return await alone(site, head(EMBED, 100, PNG)[:60], (408,))


async def crlf(site: Site) -> str:
    """A connection held by line ends after an answered request: it must end as an idle one does."""
    reader, writer = await site.connections.open()
    try:
        writer.write(INNER)
        await answer(reader)
        begun = time.monotonic()
        while time.monotonic() < begun + 2 * IDLE_SECONDS:
            writer.write(b"\r\n")
            try:
                async with asyncio.timeout(5):
                    if not await reader.read(1):
                        return "closed"
            except TimeoutError:
                continue
            except ConnectionError:
                return "closed"
        raise WrongError("line ends keep a connection")
    finally:
        writer.close()


async def watched(site: Site) -> str:
    """A gRPC connection full of streams that ask for health: each is told that all is well, and ends."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    assert site.grpc is not None
    async with grpc.aio.insecure_channel(site.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch

        async def one() -> None:
            stream: Any = watch(health_pb2.HealthCheckRequest())
            if (await stream.read()).status != health_pb2.HealthCheckResponse.SERVING:
                raise WrongError("gRPC's health is not good")
            try:
                while await stream.read() is not grpc.aio.EOF:
                    raise WrongError("gRPC's health has changed")
            except grpc.aio.AioRpcError:
                pass

        try:
            async with asyncio.timeout(
                GRPC_AGE_SECONDS + 90
            ):  # the server's deadline and time to receive are its grace
                await asyncio.gather(*(one() for _ in range(20)))
        except TimeoutError:
            raise WrongError("a stream goes on for ever") from None
    return "ended"


Attack = Callable[[Site], Awaitable[str]]
ATTACKS: dict[Attack, float] = {
    **dict.fromkeys((corrupt, huge, slow, aborted, cut, packed, smuggled, upgraded), 1.0),
    solid: 0.03,  # up to seconds of a core each
}
"""With the share of each among the bad requests."""
HELD: dict[Attack, int] = {half_head: 20, crlf: 20, watched: 5}
"""So many of each at any time."""


async def alone(site: Site, data: bytes, allowed: Sequence[int]) -> str:
    """Send that on a new connection, on which one answer must come before the server closes it."""
    reader, writer = await site.connections.open()
    try:
        writer.write(data)
        [found] = await answers(reader)
        return checked(found, allowed)
    except ValueError as error:
        raise WrongError(f"not one answer: {error}") from None
    finally:
        writer.close()


async def upgrade(site: Site, body: bytes, allowed: Sequence[int], truth: npt.NDArray[np.float32] | None) -> str:
    """A request that offers to upgrade, its body apart, then one more: two answers, the second to the second."""
    token = site.random.choice(("h2c", "websocket", "TLS/1.0"))
    reader, writer = await site.connections.open()
    try:
        writer.write(head(EMBED, len(body), PNG, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {token}"))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(body)
        first = await answer(reader)
        writer.write(LAST)
        rest = await answers(reader)
    finally:
        writer.close()
    if [one.status for one in rest] != [200] or b'"object":"list"' not in rest[0].body:
        raise WrongError(f"{[first, *rest]} to an offer to upgrade and one request")
    return checked(first, allowed, truth)


@cache
def bombs(model: str) -> list[tuple[str, bytes]]:
    """Paths, and hundreds of bytes of gzip that unpack to up to a megabyte of JSON."""
    items = ("1," * 400_000 + "1", "1," * 30_000 + "1", "[]," * 300_000 + "[]", '"fields",' * 300_000 + '""')
    doors = {
        "/v1/embed": ("images", "fields"),
        "/v1/embeddings": ("input",),
        f"/v2/models/{model}/infer": ("inputs", "outputs"),
        f"/v2/models/{model}_image/infer": ("inputs",),
        f"/v2/repository/models/{model}/load": ("parameters",),
    }
    return [
        (path, gzip.compress(f'{{"model": "{model}", "images": [""], "{name}": [{many}]}}'.encode(), 9))
        for path, names in doors.items()
        for name in names
        for many in items
    ]


@cache
def solid_png(side: int) -> bytes:
    """A picture of one colour, of which a million pixels are a kilobyte or less."""
    written = io.BytesIO()
    Image.new("1", (side, side), 1).save(written, "PNG", compress_level=9)
    return written.getvalue()


@cache
def solids(side: int, count: int) -> bytes:
    """A request of so many such pictures."""
    return request(EMBED, (PART + solid_png(side) + b"\r\n") * count + b"--x--\r\n", FORM)


def solid_truth(engine: Engine, preprocessing: Preprocessing) -> dict[int, npt.NDArray[np.float32]]:
    """The embedding [1, D] of each such picture."""
    return {side: engine(decode(solid_png(side), preprocessing)[None]).embedding for side in (4000, 8000)}

"""Ten minutes at twice the load that the server sustains, a tenth of the requests bad; every answer is checked.

Bad requests are corrupt (422), too large (413), slow (a body that stops half way: 408), aborted by their client, small
gzips of much JSON (413 or 422), or forms that are cut short (400). The rest must be answered with the vector that the
engine itself gives for their image, or with 429. Afterwards the server must be as large as before to 5 %, ready, and
idle. Exit status 1 where one of these does not hold.

As every HTTP client does, the load sends a request once more, on a new connection, where the kept one that it was sent
on was closed before any byte of an answer came: the server may end an idle connection just as a request sets out on
it, and neither side can know. These are counted (`sent_again`); anything else that breaks is wrong.
"""

import asyncio
import base64
import gzip
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import httpx2
import numpy as np
import numpy.typing as npt

from benchmarks.embed_folder import small_bundle
from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.served import VSSL, listening
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.decoding import decode

IMAGES = 64
CONNECTIONS = 700
MAX_BODY = 2**20
RECEIVE_SECONDS = 2
TOLERANCE = 1e-4
"""Between a batch of one and a batch of many."""
GROWTH = 1.05
EXPECTED = {
    **{"good": (200, 429), "corrupt": (422, 429), "huge": (413,), "slow": (408,), "aborted": (0,)},
    **{"packed": (413, 422), "cut": (400,)},
}
"""The statuses that each kind of request may get; 0: no answer is waited for."""
BAD = tuple(kind for kind in EXPECTED if kind != "good")
WHOLE = ("good", "corrupt", "packed", "cut")
"""Kinds whose body is sent and read to its end, so that their connection can be used again."""
PACKED = [
    gzip.compress(f'{{"images": [""], "{name}": [{"1," * count}1]}}'.encode())
    for name in ("fields", "images")
    for count in (30_000, 400_000)
]
"""A few hundred bytes each."""


FORM = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
IMAGE = ("Content-Type: image/png",)
HEADERS = {
    "packed": ("Content-Type: application/json", "Content-Encoding: gzip"),
    "cut": ("Content-Type: multipart/form-data; boundary=x",),
}


class ClosedIdleError(Exception):
    """A connection that was kept from an earlier request was closed before any byte of this answer."""


class Soak:
    """The requests, what came of them, and connections that are used again."""

    def __init__(self, url: str, files: list[bytes], truth: npt.NDArray[np.float32]) -> None:
        self.host, port = url.removeprefix("http://").split(":")
        self.port, self.files, self.truth = int(port), files, truth
        self.counts: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._random = random.Random(0)

    async def any_request(self) -> None:
        """One request, in nine of ten a good one."""
        kind = "good" if self._random.random() < 0.9 else self._random.choice(BAD)
        await self.request(kind)

    async def request(self, kind: str) -> None:
        """One request of a kind, its answer checked and counted."""
        index = self._random.randrange(len(self.files))
        body = self.files[index]
        if kind == "corrupt":
            body = body[: len(body) // 3]
        elif kind == "huge":
            body = bytes(MAX_BODY + 1)
        elif kind == "packed":
            body = self._random.choice(PACKED)
        elif kind == "cut":
            body = FORM + body
        begun = time.monotonic()
        try:
            try:
                status, content = await self._exchange(kind, body, again=kind in WHOLE)
            except ClosedIdleError:
                self.counts["sent_again"] += 1
                status, content = await self._exchange(kind, body, again=False)
        except (OSError, EOFError, TimeoutError) as error:
            # The server may close on a body that it won't read before its 413 is.
            status, content = (413 if kind == "huge" else -1), repr(error).encode()
        self.counts[f"{kind} {status}"] += 1
        if status not in EXPECTED[kind]:
            self.wrong[f"{kind} {status} {content[:80]!r}"] += 1
        elif status == 200:
            self.seconds.append(time.monotonic() - begun)
            found = np.frombuffer(base64.b64decode(json.loads(content)["data"][0]["embedding"]), "<f4")
            if found.shape != self.truth[index].shape or np.abs(found - self.truth[index]).max() > TOLERANCE:
                self.wrong["another image's vector"] += 1

    async def closed(self, connections: int, seconds: float) -> float:
        """Good requests, each connection one after the other; answered in a second."""
        end, before = time.monotonic() + seconds, self.counts["good 200"]

        async def one_after_the_other() -> None:
            while time.monotonic() < end:
                await self.request("good")

        await asyncio.gather(*(one_after_the_other() for _ in range(connections)))
        return (self.counts["good 200"] - before) / seconds

    async def open(self, rate: float, seconds: float) -> int:
        """So many requests a second, whether or not the earlier ones are answered; the number sent."""
        running: set[asyncio.Task[None]] = set()
        begun = time.monotonic()
        for number in itertools.count():
            due = begun + number / rate
            if due > begun + seconds:
                break
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            while len(running) >= CONNECTIONS:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if time.monotonic() > begun + seconds:
                break
            task = asyncio.create_task(self.any_request())
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        return number

    async def _exchange(self, kind: str, body: bytes, again: bool) -> tuple[int, bytes]:
        """Status and body of the answer. With `again` it may be a kept connection, and is kept afterwards."""
        while again and self._idle and self._idle[-1][0].at_eof():
            self._idle.pop()[1].close()
        kept = again and bool(self._idle)
        reader, writer = self._idle.pop() if kept else await asyncio.open_connection(self.host, self.port)
        done = False
        try:
            writer.write(head(len(body), *HEADERS.get(kind, IMAGE)))
            writer.write(body[: len(body) // 2] if kind in ("slow", "aborted") else body)
            if kind == "aborted":
                await writer.drain()
                return 0, b""
            async with asyncio.timeout(120):
                try:
                    first = await reader.readexactly(1)
                except (ConnectionError, EOFError) as error:
                    raise ClosedIdleError if kept else error from None
                found = await answer(reader, first)
            done = True
            return found
        finally:
            if again and done:
                self._idle.append((reader, writer))
            else:
                writer.close()


def head(length: int, *headers: str) -> bytes:
    """Of a request for one embedding in base64."""
    first = ("POST /v1/embed?fields=embedding&encoding=base64 HTTP/1.1", "Host: x", f"Content-Length: {length}")
    return "\r\n".join((*first, *headers, "", "")).encode()


async def answer(reader: asyncio.StreamReader, first: bytes) -> tuple[int, bytes]:
    """Status and body of an answer whose first byte has been read."""
    lines = (first + await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


def resident(pid: int) -> float:
    """MiB that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def soak(url: str, pid: int, bundle: Path, seconds: float) -> Row:
    """The row: counts, latency, memory, and what went wrong."""
    opened = open_bundle(bundle)
    with zipfile.ZipFile(DEMO_DATA) as archive:
        names = [name for name in archive.namelist() if name.startswith("test/") and name.endswith(".png")][:IMAGES]
        files = [archive.read(name) for name in names]
    truth = Engine(opened)(np.stack([decode(data, opened.manifest.preprocessing) for data in files])).embedding
    load = Soak(url, files, truth)
    sustained = await load.closed(32, min(10.0, seconds / 4))
    # Each thread that unpacks keeps a heap of its own: all are there before the memory is watched.
    await asyncio.gather(*(load.request("packed") for _ in range(500)))
    sizes: list[float] = []

    async def watch() -> None:
        while True:
            sizes.append(resident(pid))
            await asyncio.sleep(seconds / 100)

    watcher = asyncio.create_task(watch())
    load.counts.clear()
    load.seconds.clear()
    sent = await load.open(2 * sustained, seconds)
    watcher.cancel()
    fifth = len(sizes) // 5
    before, after = statistics.median(sizes[fifth : 2 * fifth]), statistics.median(sizes[-fifth:])
    if after > GROWTH * before:
        load.wrong[f"memory grew from {before:.0f} to {after:.0f} MiB"] += 1
    await load.request("good")
    metrics = httpx2.get(f"{url}/metrics").text
    if httpx2.get(f"{url}/readyz").status_code != 200 or 'vssl_queue_images{model="' not in metrics:
        load.wrong["not ready afterwards"] += 1
    if not any(line.endswith(" 0.0") for line in metrics.splitlines() if line.startswith("vssl_queue_images{")):
        load.wrong["images are still queued afterwards"] += 1
    load.seconds.sort()
    return {
        "sustained_per_second": sustained,
        "offered_per_second": sent / seconds,
        "sent": sent,
        "sent_again": load.counts.pop("sent_again", 0),
        **dict(sorted(load.counts.items())),
        "p50_ms": 1000 * load.seconds[len(load.seconds) // 2],
        "p99_ms": 1000 * load.seconds[len(load.seconds) * 99 // 100],
        "MiB_before": before,
        "MiB_after": after,
        "wrong": sum(load.wrong.values()),
        "what": "; ".join(load.wrong) or None,
    }


def main() -> None:
    """Print the table; exit status 1 where something was wrong."""
    flags = parser(__doc__)
    flags.add_argument("--bundle", type=Path, help="a bundle; without it a small one is trained")
    flags.add_argument("--seconds", type=float, help="600; 60 with --quick")
    arguments = flags.parse_args()
    seconds = arguments.seconds or (60.0 if arguments.quick else 600.0)
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or small_bundle(Path(folder))
        limits = ["--max-body-bytes", str(MAX_BODY), "--receive-seconds", str(RECEIVE_SECONDS)]
        limits += ["--queue-images", "64", "--max-images", "64"]
        with listening([VSSL, "serve", str(bundle), "--port", "0", *limits]) as (url, pid):
            row = asyncio.run(soak(url, pid, bundle, seconds))
    report("Soak", [row], {"seconds": seconds, "connections": CONNECTIONS}, arguments.json)
    if row["wrong"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Latency at a given rate: requests come whether or not earlier ones are answered, as those of many users do.

`python -m benchmarks.open_loop --json FILE`. A closed loop, such as `hey`'s, waits for each answer before it asks
again, so it asks less just when a server is slow. Here each request has the moment at which it is due, and its latency
counts from then, however late it could be sent. The rates are parts of what the server sustains in a closed loop with
32 clients, measured in the same run. One JPEG a request; a small encoder of 32 px and a ResNet-18 of 224 px.
"""

import asyncio
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from benchmarks.embed_folder import small_bundle
from benchmarks.large_encoder import large_bundle
from benchmarks.report import Row, parser, report
from benchmarks.served import VSSL, Listening, listening
from benchmarks.serving import jpeg
from vssl.bundle.reading import open_bundle

PARTS = (0.5, 0.8)
CLIENTS = 32
CONNECTIONS = 512
"""At most; a request that finds none free waits for one, and its latency counts on."""


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    flags.add_argument("--rounds", type=int, default=3)
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.rounds = 3.0, 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = [small_bundle(folder), *([] if arguments.quick else [large_bundle(folder)])]
        rows = [row for bundle in bundles for row in measured(bundle, arguments)]
    about = {"seconds": arguments.seconds, "rounds": arguments.rounds}
    report("Latency at a given rate", rows, about, arguments.json)


def measured(bundle: Path, arguments: Namespace) -> Iterator[Row]:
    """The rows of one encoder: medians of the rounds."""
    side, seconds = open_bundle(bundle).manifest.preprocessing.size, arguments.seconds
    with listening([VSSL, "serve", str(bundle), "--port", "0"]) as server:
        client = Asking(server, jpeg(side))
        asyncio.run(client.closed(2.0))  # warms up
        found: dict[float, list[list[float]]] = {}
        rates = []
        for _ in range(arguments.rounds):
            rates.append(asyncio.run(client.closed(seconds)))
            for part in PARTS:
                found.setdefault(part, []).append(sorted(asyncio.run(client.open(part * rates[-1], seconds))))
    yield {"encoder_px": side, "load": f"closed, {CLIENTS} clients", "images_per_second": statistics.median(rates)}
    for part, runs in found.items():
        percentiles = {
            f"p{share}_ms": 1000 * statistics.median(run[min(len(run) * share // 100, len(run) - 1)] for run in runs)
            for share in (50, 99)
        }
        rate = part * statistics.median(rates)
        yield {"encoder_px": side, "load": f"open, {part:.0%}", "images_per_second": rate, **percentiles}


class Asking:
    """Asks a server for the embedding of one JPEG over connections that stay open."""

    def __init__(self, server: Listening, data: bytes) -> None:
        self._address = server.host, server.port
        head = ["POST /v1/embed HTTP/1.1", f"Host: {server.host}", "Content-Type: image/jpeg"]
        self._request = "\r\n".join([*head, f"Content-Length: {len(data)}", "", ""]).encode() + data

    async def closed(self, seconds: float) -> float:
        """Answers a second with `CLIENTS` that ask again when they are answered."""
        begun = time.perf_counter()

        async def client() -> int:
            stream, answers = await asyncio.open_connection(*self._address), 0
            while time.perf_counter() - begun < seconds:
                await self._ask(*stream)
                answers += 1
            stream[1].close()
            return answers

        answers = await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return sum(answers) / (time.perf_counter() - begun)

    async def open(self, rate: float, seconds: float) -> list[float]:
        """The seconds of each answer from the moment at which its request was due."""
        free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        places, begun = asyncio.Semaphore(CONNECTIONS), time.perf_counter()

        async def one(due: float) -> float:
            async with places:
                stream = free.pop() if free else await asyncio.open_connection(*self._address)
                await self._ask(*stream)
                free.append(stream)
            return time.perf_counter() - due

        tasks = []
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.append(asyncio.create_task(one(due)))
        waits = await asyncio.gather(*tasks)
        for _, writer in free:
            writer.close()
        return waits

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            status = head.split(b"\r\n")[0].decode()
            raise SystemExit(f"the server answered {status}")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))


if __name__ == "__main__":
    main()

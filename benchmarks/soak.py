"""Ten minutes at twice the load that the server sustains, a tenth of the requests bad; every answer is checked.

The bad ones are those of `benchmarks/soak_attacks.py`, and connections are held beside them, all the time. The engine
fails now and then, and health is asked by a process of its own. The good ones must be answered with the vector that the
engine itself gives for their image, with 429, or with the 500 of the few calls that fail. Afterwards the server must be
as large to 5 % as after the first fifth, when nothing is in flight, ready, and idle; no health answer may take over
250 ms, and a small image beside pictures of one colour no more than ten times as long as alone. Exit status 1 where one
of these does not hold.

Before the load, health is asked beside gzips of bad JSON alone (`bombs_…`), and the small image beside pictures alone.
`…machine_late_ms` is how late the process that asks for health woke up: with more than a few, the machine was too busy
for these times to mean anything. Requests that met a kept connection just being closed are sent once more
(`sent_again`); anything else that breaks is wrong.
"""

import asyncio
import io
import re
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image

from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.served import listening
from benchmarks.soak_attacks import (
    ADMIN_KEY,
    EMBED,
    GRPC_AGE_SECONDS,
    MAX_BODY,
    RECEIVE_SECONDS,
    Site,
    checked,
    good,
    packed,
    solid,
    solid_truth,
    solids,
)
from benchmarks.soak_health import Asked, Health, asking, summary
from benchmarks.soak_load import CONNECTIONS, Soak
from benchmarks.wire import Connections, request
from vssl.bundle.default import TINY
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.images.decoding import decode

IMAGES = 64
GROWTH = 1.05
HEALTH_SECONDS = 0.25
SMALL_RATIO = 10
FAILED_SHARE = 0.02
"""Of the good requests, at most: the engine fails on 2 of 300 calls."""


def resident(pid: int) -> float:
    """MiB that a process holds now, swapped out or not; the system takes and brings pages of files as it likes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(status.partition(name)[2].split()[0]) for name in ("RssAnon:", "VmSwap:")) / 1024


async def settled(url: str, pid: int) -> float:
    """MiB that the server holds once the last body has come or timed out, and unused memory was given back."""
    async with asyncio.timeout(60), httpx2.AsyncClient() as client:
        while not re.search(r"^vssl_pending_pixels 0\.0$", (await client.get(f"{url}/metrics")).text, re.M):
            await asyncio.sleep(0.2)
    await asyncio.sleep(RECEIVE_SECONDS + 5)
    return resident(pid)


async def small_beside(load: Soak, seconds: float) -> Row:
    """Milliseconds of a 200-px JPEG, alone and beside pictures of one colour, as many as the server admits."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG", quality=90)
    sent = request(EMBED, file.getvalue(), "Content-Type: image/jpeg")

    async def median() -> float:
        taken = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begun = time.monotonic()
            if checked(await load.site.connections.ask(sent), (200, 429, 500)) == "200":
                taken.append(1000 * (time.monotonic() - begun))
        return statistics.median(taken)

    alone = await median()
    beside = asyncio.create_task(load.closed(sixteen_solids, 4, seconds))
    found = await median()
    await beside
    return {"small_alone_ms": alone, "small_beside_solid_ms": found}


async def sixteen_solids(site: Site) -> str:
    """As much as one request may hold."""
    truth = np.repeat(site.solid[4000], 16, axis=0)
    return checked(await site.connections.ask(solids(4000, 16)), (200, 429, 500, 504), truth)


async def soak(load: Soak, health: Health, url: str, pid: int, seconds: float) -> Row:
    """The row: counts, latency, health, memory, and what went wrong."""
    part = min(10.0, seconds / 4)
    sustained = await load.closed(good, 32, part)
    row: Row = {"sustained_per_second": sustained, **await small_beside(load, part)}
    begun = time.monotonic()
    await load.closed(packed, 8, part)
    bombs = health.since(begun)
    sizes: list[float] = []

    async def watch() -> None:
        while True:
            sizes.append(resident(pid))
            await asyncio.sleep(0.1)

    async with load.held():
        # Each thread that decodes or unpacks keeps a heap of its own: all are there before the memory is watched.
        await asyncio.gather(*(load.request(solid) for _ in range(20)))
        await load.open(2 * sustained, part)
        watcher = asyncio.create_task(watch())
        load.counts.clear()
        load.seconds.clear()
        begun = time.monotonic()
        sent = await load.open(2 * sustained, seconds / 5)
        before = await settled(url, pid)
        sent += await load.open(2 * sustained, seconds * 4 / 5)
        after = await settled(url, pid)
        watcher.cancel()
        asked = health.since(begun)
    row |= {
        "offered_per_second": sent / seconds,
        "sent": sent,
        "sent_again": load.site.connections.counts["sent_again"],
    }
    row |= dict(sorted(load.counts.items()))
    load.seconds.sort()
    row |= {"p50_ms": 1000 * load.seconds[len(load.seconds) // 2]}
    row |= {"p99_ms": 1000 * load.seconds[len(load.seconds) * 99 // 100]}
    row |= summary(asked, "health") | summary(bombs, "bombs_health")
    row |= {"MiB_before": before, "MiB_after": after, "MiB_peak": max(sizes)}
    load.wrong.update(await left_behind(load, url))
    load.wrong.update(f"health: {one.status}" for one in (*bombs, *asked) if one.status != 200)
    if load.counts["good 500"] > FAILED_SHARE * load.counts["good 200"]:
        load.wrong["more requests failed than calls of the engine"] += 1
    if after > GROWTH * before:
        load.wrong[f"memory grew from {before:.0f} to {after:.0f} MiB"] += 1
    row |= {"wrong": sum(load.wrong.values()), "what": "; ".join(load.wrong) or None, "late": late(row, bombs, asked)}
    return row


def late(row: Row, *asked: Sequence[Asked]) -> str | None:
    """What took too long."""
    slowest = max(one.seconds for some in asked for one in some)
    ratio = row["small_beside_solid_ms"] / row["small_alone_ms"]
    found = [f"health took {slowest:.2f} s"] if slowest > HEALTH_SECONDS else []
    found += (
        [f"a small image took {ratio:.0f} times as long beside pictures of one colour"] if ratio > SMALL_RATIO else []
    )
    return "; ".join(found) or None


async def left_behind(load: Soak, url: str) -> list[str]:
    """What is wrong with the server after the load."""
    await load.request(good)
    found = []
    metrics = httpx2.get(f"{url}/metrics").text
    queued = re.findall(r"^vssl_queue_images\{.*\} (.*)$", metrics, re.M)
    if httpx2.get(f"{url}/readyz").status_code != 200:
        found.append("not ready afterwards")
    if queued != ["0.0"]:
        found.append(f"images are queued afterwards: {queued}")
    return found


def images(location: Path) -> Site:
    """What is sent, and its embeddings; the connections are opened later."""
    opened = open_bundle(location)
    with zipfile.ZipFile(DEMO_DATA) as archive:
        names = [name for name in archive.namelist() if name.startswith("test/") and name.endswith(".png")][:IMAGES]
        files = [archive.read(name) for name in names]
    engine, preprocessing = Engine(opened), opened.manifest.preprocessing
    truth = engine(np.stack([decode(data, preprocessing) for data in files])).embedding
    return Site(opened.manifest.name, files, truth, solid_truth(engine, preprocessing))


def command(bundle: Path, keys: Path) -> list[str]:
    """What starts the server, with limits that the load reaches."""
    options: dict[str, object] = {"port": 0, "admin-keys-file": keys, "queue-images": 64, "max-images": 64}
    options |= {"max-body-bytes": MAX_BODY, "receive-seconds": RECEIVE_SECONDS}
    if find_spec("grpc_health"):
        options |= {"grpc-port": 0, "grpc-age-seconds": GRPC_AGE_SECONDS}
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "benchmarks.soak_server", "serve", str(bundle), *flags]


def main() -> None:
    """Print the table; exit status 1 where something was wrong or late."""
    flags = parser(__doc__)
    flags.add_argument("--bundle", type=Path, help="a bundle; without it the model that comes with vssl")
    flags.add_argument("--seconds", type=float, help="600; 60 with --quick")
    arguments = flags.parse_args()
    seconds = arguments.seconds or (60.0 if arguments.quick else 600.0)
    bundle = arguments.bundle or TINY
    site = images(bundle)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys")
        keys.write_text(f"{ADMIN_KEY}\n")
        with listening(command(bundle, keys)) as server, asking(server.host, server.port) as health:
            site.connections, site.grpc = Connections(server.host, server.port), server.grpc
            row = asyncio.run(soak(Soak(site), health, server.url, server.pid, seconds))
    report("Soak", [row], {"seconds": seconds, "connections": CONNECTIONS}, arguments.json)
    if row["wrong"] or row["late"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Images in an object store that answers 40 ms late, beside the same files on this machine's disk.

First the clients alone: so many small objects, 64 requests under way at once, by obstore as `vssl` calls it (threads),
by obstore's coroutines, by pyarrow's S3 and by fsspec over HTTP (aiohttp). Then whole commands, `vssl embed`, start and
Parquet included; disk and store take turns, and medians are shown. With 64 under way and 40 ms each no client gets more
than 1,600 objects a second. The store is a process on this machine: its share of the cores is in the table, and a real
one takes none.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

from benchmarks.processes import cpu_seconds
from benchmarks.report import DEMO_DATA, Row, parser, report
from benchmarks.slow_store import slow_store
from vssl.objects.path import ObjectPath
from vssl.objects.store import open_store
from vssl.sources.opening import open_source

VSSL = str(Path(sys.executable).parent / "vssl")
IN_FLIGHT = 64
BUCKET = "photographs"
CLOTHES = str(Path(DEMO_DATA).with_name("clothes.zip"))


def by_threads(url: str, keys: Sequence[str]) -> int:
    """As `vssl` does."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        return sum(map(len, pool.map(lambda key: ObjectPath(f"s3://{BUCKET}/{key}").read(), keys)))


def by_coroutines(url: str, keys: Sequence[str]) -> int:
    """obstore in an event loop."""
    store = open_store(f"s3://{BUCKET}")

    async def every() -> int:
        free = asyncio.Semaphore(IN_FLIGHT)

        async def one(key: str) -> int:
            async with free:
                return len(await (await store.get_async(key)).bytes_async())

        return sum(await asyncio.gather(*map(one, keys)))

    return asyncio.run(every())


def by_pyarrow(url: str, keys: Sequence[str]) -> int:
    """pyarrow's client, in threads."""
    from pyarrow import fs, set_io_thread_count

    set_io_thread_count(IN_FLIGHT)
    store = fs.S3FileSystem(endpoint_override=url, region="us-east-1", access_key="key", secret_key="secret")

    def one(key: str) -> int:
        with store.open_input_stream(f"{BUCKET}/{key}") as file:
            return len(file.read())

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        return sum(pool.map(one, keys))


def by_fsspec(url: str, keys: Sequence[str]) -> int:
    """fsspec's client for the web: s3fs needs a botocore of its own, and uses aiohttp, too."""
    import fsspec

    store = fsspec.filesystem("http")
    found = store.cat([f"{url}/{BUCKET}/{key}" for key in keys], batch_size=IN_FLIGHT)
    return sum(map(len, found.values()))


CLIENTS: dict[str, Callable[[str, Sequence[str]], int]] = {
    "obstore, threads (ours)": by_threads,
    "obstore, coroutines": by_coroutines,
    "pyarrow, threads": by_pyarrow,
    "fsspec, HTTP": by_fsspec,
}


def ask_clients(url: str, keys: Sequence[str], pid: int, milliseconds: float, rounds: int) -> list[Row]:
    """Objects a second of each client, and the processor time of one object here and in the store."""
    rows: list[Row] = []
    for name, client in CLIENTS.items():
        client(url, keys[:IN_FLIGHT])  # it imports and connects
        seconds, used, of_store = [], [], []
        for _ in range(rounds):
            begun, before, store = time.monotonic(), time.process_time(), cpu_seconds(pid)
            client(url, keys)
            seconds.append(time.monotonic() - begun)
            used.append(time.process_time() - before)
            of_store.append(cpu_seconds(pid) - store)
        count = len(keys)
        per_second = count / statistics.median(seconds)
        rows.append(
            {
                "what": name,
                "per_second": per_second,
                "of_limit": per_second * milliseconds / 1000 / IN_FLIGHT,
                "cpu_us": 1e6 * statistics.median(used) / count,
                "store_cpu_us": 1e6 * statistics.median(of_store) / count,
            }
        )
    return rows


def embed(source: str, bundle: str, pid: int) -> tuple[float, float, float]:
    """Seconds of the whole command, and the processor time of it and of the store."""
    out = tempfile.mkdtemp()
    store, before, begun = cpu_seconds(pid), os.times(), time.monotonic()
    subprocess.run([VSSL, "embed", source, "-o", out, "--bundle", bundle, "-q"], check=True)
    seconds, after = time.monotonic() - begun, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    shutil.rmtree(out)
    return seconds, used, cpu_seconds(pid) - store


def beside(folder: Path, bundle: str, pid: int, rounds: int) -> list[Row]:
    """The disk and the store in turns, after a round that does not count: files are still being written then."""
    places = {"disk": str(folder / BUCKET), "store": f"s3://{BUCKET}"}
    count = sum(1 for _ in open_source(places["disk"]).paths())
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in places}
    os.sync()
    for counts in [False, *[True] * rounds]:
        for name, place in places.items():
            run = embed(place, bundle, pid)
            runs[name] += [run] if counts else []
    disk = statistics.median(seconds for seconds, _, _ in runs["disk"])
    rows: list[Row] = []
    for name, found in runs.items():
        seconds, used, of_store = (statistics.median(column) for column in zip(*found, strict=True))
        rows.append(
            {
                "what": f"vssl embed, {bundle}, {name}",
                "per_second": count / seconds,
                "of_disk": disk / seconds,
                "cpu_us": 1e6 * used / count,
                "store_cpu_us": 1e6 * of_store / count,
            }
        )
    return rows


def unpack(data: str, folder: Path, count: int) -> None:
    """So many images of an archive as files, again and again from the first."""
    with zipfile.ZipFile(data) as archive:
        source = open_source(data)
        for number, path in enumerate(islice(cycle(list(source.paths())), count)):
            file = folder / BUCKET / f"{number % 100:02d}" / f"{number:06d}{Path(path).suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.read(path))


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--milliseconds", type=float, default=40.0, help="of each answer")
    asked = flags.parse_args()
    rounds = 1 if asked.quick else 3
    rows: list[Row] = []
    small, large = (4000, 600) if asked.quick else (12_000, 1000)
    counts = {("builtin:tiny", DEMO_DATA): small, ("builtin:default", CLOTHES): large}
    for (bundle, data), count in counts.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            unpack(data, folder, count)
            with slow_store(folder / BUCKET, asked.milliseconds / 1000) as (url, pid):
                os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
                open_store.cache_clear()
                if bundle == "builtin:tiny":
                    keys = [path for path, _ in ObjectPath(f"s3://{BUCKET}").under()]
                    rows += ask_clients(url, keys[:4000], pid, asked.milliseconds, rounds)
                rows += beside(folder, bundle, pid, rounds)
    settings = {"milliseconds": asked.milliseconds, "in_flight": IN_FLIGHT, "rounds": rounds}
    report("Object stores", rows, settings, asked.json)


if __name__ == "__main__":
    main()

"""An object store far away: the files of a folder over S3's interface, each answer so many milliseconds late.

It checks no signatures and holds all files in memory. It runs in a process of its own, so that its work shows as its
own processor time.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 1000


class Store:
    """The objects of one bucket, by key."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        files = (path for path in folder.rglob("*") if path.is_file())
        self.objects = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        self.keys = sorted(self.objects, key=str.encode)

    def answer(self, method: str, target: str, headers: str) -> bytes:
        """The whole answer to a request."""
        parts = urlsplit(target)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        if "list-type" in (query := parse_qs(parts.query, keep_blank_values=True)):
            return _framed(200, self._listing(query).encode())
        if key not in self.objects:
            return _framed(404, b"")
        data, size = self.objects[key], len(self.objects[key])
        found = re.search(r"\r\nrange: *bytes=(\d+)-(\d+)", headers, re.IGNORECASE)
        if found is None:
            return _framed(200, data, method != "HEAD")
        begin, end = int(found[1]), min(int(found[2]), size - 1)
        return _framed(206, data[begin : end + 1], True, f"content-range: bytes {begin}-{end}/{size}\r\n")

    def _listing(self, query: dict[str, list[str]]) -> str:
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        left = [key for key in self.keys if key.startswith(prefix) and key > after]
        page, more = left[:PAGE], len(left) > PAGE
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"x"</ETag><Size>{len(self.objects[key])}</Size></Contents>'
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"


def _framed(status: int, body: bytes, with_body: bool = True, headers: str = "") -> bytes:
    head = (
        f'HTTP/1.1 {status} .\r\ncontent-length: {len(body)}\r\netag: "x"\r\naccept-ranges: bytes\r\n'
        f"last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{headers}\r\n"
    )
    return head.encode() + (body if with_body else b"")


class Connection(asyncio.Protocol):
    """One client. Requests have no body."""

    def __init__(self, store: Store) -> None:
        self._store, self._rest = store, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete, later."""
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            line, _, headers = head.decode("latin-1").partition("\r\n")
            method, target, _ = line.split(" ")
            answer = self._store.answer(method, target, f"\r\n{headers}")
            asyncio.get_running_loop().call_later(self._store.seconds, self._transport.write, answer)


@contextmanager
def slow_store(folder: Path, seconds: float) -> Iterator[tuple[str, int]]:
    """The address of a store of the files in a folder, and the number of its process."""
    command = [sys.executable, "-m", "benchmarks.slow_store", str(folder), str(seconds)]
    with Popen(command, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.terminate()


async def _serve(store: Store) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(store), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    flags = argparse.ArgumentParser()
    flags.add_argument("folder", type=Path)
    flags.add_argument("seconds", type=float)
    asked = flags.parse_args()
    import uvloop

    uvloop.run(_serve(Store(asked.folder, asked.seconds)))

"""The `vssl` command and the server as processes of their own, and a proxy that damages what passes through it."""

import http.client
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

VSSL = [sys.executable, "-m", "vssl.cli"]


def vssl(*arguments: str | Path, status: int = 0, before: str = "") -> "subprocess.CompletedProcess[str]":
    """Run one command to its end; `before` is Python that its process runs first."""
    line = command(*arguments, before=before)
    done = subprocess.run(line, capture_output=True, errors="surrogateescape", check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def command(*arguments: str | Path, before: str = "") -> list[str]:
    words = [str(argument) for argument in arguments]
    if not before:
        return [*VSSL, *words]
    return [sys.executable, "-c", f"{before}\nfrom vssl.cli import main\nmain()", *words]


@contextmanager
def serving(bundle: Path | None, *flags: str, port: int = 0, before: str = "") -> Iterator[str]:
    """The address of a real server that runs until the end of the block."""
    line = command("serve", *([] if bundle is None else [bundle]), "--port", str(port), *flags, before=before)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield next(line for line in process.stderr if " on http://" in line).split(" on ")[-1].strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


Fault = tuple[int, dict[str, str]] | Literal["drop", "truncate", "garbage", "hang"]


class Proxy:
    """Passes requests on to `upstream`, but meets each with the next of `faults` while there are any.

    `edit` is given the path and the body of each answer, and gives the body to send in its place, of the same length.
    `seen` has the Authorization of each request as soon as its body is there, `headers` has all of the last one's;
    `always` is a fault for all that is left. `slow` is the seconds that the way
    takes at least; it takes five times as long as what lies behind it.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.edit: Callable[[str, bytes], bytes] = lambda _, body: body
        self.faults: queue.SimpleQueue[Fault] = queue.SimpleQueue()
        self.always: Fault | None = None
        self.slow = 0.0
        self.seen: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.headers: Message = Message()
        self.released = threading.Event()

    def next_fault(self) -> Fault | None:
        try:
            return self.faults.get_nowait()
        except queue.Empty:
            return self.always


def passed_on(headers: Message) -> dict[str, str]:
    """The headers without which a body can't be understood."""
    kept = ("Content-Type", "Content-Encoding", "Inference-Header-Content-Length", "X-Request-ID", "Server-Timing")
    return {name: headers[name] for name in kept if name in headers}


@contextmanager
def proxied(upstream: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of `upstream`, and its address."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.next_fault()
            proxy.headers = self.headers
            proxy.seen.put(self.headers["Authorization"])
            if fault == "drop":
                self.close_connection = True
            elif fault == "hang":
                proxy.released.wait(100)
                self.close_connection = True
            elif fault == "garbage":
                self.answer(200, b"<html>it works!</html>", {})
            elif isinstance(fault, tuple):
                self.answer(
                    fault[0], b'{"error": {"message": "not now", "type": "server_error", "code": "x"}}', fault[1]
                )
            else:
                self.forward(body, cut=fault == "truncate")

        def forward(self, body: bytes, cut: bool) -> None:
            begun = time.monotonic()
            connection = http.client.HTTPConnection(proxy.upstream.removeprefix("http://"), timeout=60)
            connection.request(self.command, self.path, body, passed_on(self.headers))
            response = connection.getresponse()
            body = proxy.edit(self.path, response.read())
            if proxy.slow:
                time.sleep(max(proxy.slow, 5 * (time.monotonic() - begun)))
            self.answer(response.status, body, passed_on(response.headers), cut)
            connection.close()

        def answer(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

        do_GET = do_POST = handle_request  # noqa: N815 — the names that the base class looks for

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_port}"
    finally:
        proxy.released.set()
        server.shutdown()
        server.server_close()
        thread.join()

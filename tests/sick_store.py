"""An object store in memory, and a proxy before it that is slow, fails and cuts answers short, as it is told."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "key-of-a-test", "AWS_SECRET_ACCESS_KEY": "secret-of-a-test", "AWS_REGION": "us-east-1"}
"""In the environment, as a user's are. No message may hold the first two."""


class SickProxy:
    """Passes requests on to a store, and does to the answers what `harm` says.

    Attributes:
        harm: (method, path with query) → None, a status to answer in place of the store, or `cut`: half the body and an
            end of the connection. It may sleep.
        requests: every (method, path with query), in order.
    """

    def __init__(self, host: str, port: int) -> None:
        self.harm: Callable[[str, str], int | str | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self._store = host, port
        self._puts = threading.Lock()
        """A store decides a conditional PUT in one step; moto looks, then writes, so two at once can both succeed."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _pass(self) -> None:
                proxy._answer(self)

            do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _pass  # noqa: N815 — the names that the library looks for

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        self.requests.append((request.command, request.path))
        harm = self.harm(request.command, request.path)
        if isinstance(harm, int):
            # As S3 does, the answer repeats what it was sent.
            told = f"<Error><Code>Injected</Code><Sent>{request.headers.get('authorization')}</Sent></Error>".encode()
            request.send_response(harm)
            request.send_header("content-length", str(len(told)))
            request.end_headers()
            request.wfile.write(told if request.command != "HEAD" else b"")
            return
        with self._puts if request.command == "PUT" else nullcontext():
            store = http.client.HTTPConnection(*self._store)
            store.request(request.command, request.path, body, dict(request.headers))
            answer = store.getresponse()
            data = answer.read()
            store.close()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                request.send_header(name, value)
        length = answer.getheader("content-length") if request.command == "HEAD" else str(len(data))
        request.send_header("content-length", length or "0")
        request.end_headers()
        request.wfile.write(data[: len(data) // 2] if harm == "cut" else data)
        if harm == "cut":
            request.close_connection = True


@contextmanager
def sick_store(bucket: str) -> Iterator[SickProxy]:
    """A bucket of moto's server behind the proxy. The environment names it for as long as the block lasts.

    A process opens each bucket once, and all servers of moto in it hold the same: so it is emptied and forgotten.
    """
    import boto3
    from moto.server import ThreadedMotoServer

    from vssl.objects.store import open_store

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = SickProxy(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": proxy.url}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=bucket)
        open_store.cache_clear()
        yield proxy
        proxy.harm = lambda method, path: None
        ours = boto3.resource("s3").Bucket(bucket)
        ours.objects.all().delete()
        ours.delete()
    open_store.cache_clear()
    proxy.close()
    server.stop()


def slow(seconds: float) -> Callable[[str, str], None]:
    """A `harm` that only waits."""
    return lambda method, path: time.sleep(seconds)

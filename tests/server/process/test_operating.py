"""What whoever runs the server relies on: every way to start, watch, publish and end it."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from tests.server.conftest import Served, make_certificate, png, serving
from tests.server.http.test_errors import error
from tests.server.process.test_serve import running, stop_listening, vssl_serve
from tests.server.process.test_workers import children, until
from vssl.bundle.reading import Bundle
from vssl_server.observed import metrics
from vssl_server.observed.request_log import LogThread

PNG = {"Content-Type": "image/png"}


@pytest.fixture(autouse=True)
def hang_up_ends() -> Iterator[None]:
    """Processes inherit that SIGHUP is ignored, as it is under `nohup`: not in the servers of these tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"])
def test_head_of_health_is_get_without_its_body(address: tuple[str, int], path: str) -> None:
    with httpx2.Client(base_url=f"http://{address[0]}:{address[1]}") as client:
        for _ in range(2):  # on one connection, which a body that should not be there would break
            got, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
            assert head.headers["content-length"] == got.headers["content-length"]


def announced(process: "subprocess.Popen[str]") -> str:
    """The line that says where it serves; before it stands what was decided about the engine's threads."""
    assert process.stderr is not None
    return next(line for line in iter(process.stderr.readline, "") if " serving " in line)


ROUTES = {
    "/v1/embed": "OPTIONS, POST",
    "/v1/models": "GET, HEAD, OPTIONS",
    "/metrics": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
    "/v2": "GET, HEAD, OPTIONS",
    "/v2/models/tiny": "GET, HEAD, OPTIONS",
    "/v2/models/tiny/infer": "OPTIONS, POST",
}


@pytest.mark.parametrize(("path", "allowed"), ROUTES.items())
def test_every_route_says_what_it_allows(served: Served, path: str, allowed: str) -> None:
    answer = served.client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    refused = served.client.request("DELETE", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    head = served.client.head(path)
    assert head.status_code == (200 if "HEAD" in allowed else 405)


def test_options_of_nothing_and_of_all(address: tuple[str, int], served: Served) -> None:
    error(served.client.options("/nothing"), 404, "not_found")
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("OPTIONS", "*")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    connection.close()


def test_a_path_in_front_of_all_whether_the_proxy_takes_it_away_or_not(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, name="published", root_path="/images/embed") as served:
        for front in ("", "/images/embed"):
            assert served.client.post(f"{front}/v1/embed", content=png(1), headers=PNG).status_code == 200
            assert served.client.get(f"{front}/v2/models/published").status_code == 200
            assert served.client.get(f"{front}/openapi.json").json()["servers"] == [{"url": "/images/embed"}]
        error(served.client.get("/images/embedder/v1/models"), 404, "not_found")


def test_pages_of_other_origins_ask_only_where_they_may(tiny_bundle: Bundle, tmp_path: Path, served: Served) -> None:
    (tmp_path / "keys").write_text("key\n")
    origin, other = "https://a.example", "https://evil.example"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serving(
        tiny_bundle, name="cors", cors_origins=f"{origin}, https://b.example", api_keys_file=tmp_path / "keys"
    ) as allowing:
        before = allowing.client.options("/v1/embed", headers=asked | {"Origin": origin})
        assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, origin)
        answer = allowing.client.post("/v1/embed", content=png(1), headers=PNG | {"Origin": origin})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, origin)
        refused = allowing.client.options("/v1/embed", headers=asked | {"Origin": other})
        assert "access-control-allow-origin" not in refused.headers
    off = served.client.options("/v1/embed", headers=asked | {"Origin": origin})
    assert "access-control-allow-origin" not in off.headers


def test_a_unix_socket_in_place_of_a_port_and_metrics_on_their_own(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "vssl.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))  # what a server that was killed leaves behind
    with vssl_serve(tiny_bundle.location, "--uds", str(path), "--metrics-port", "0") as process:
        try:
            line = announced(process)
            assert line.startswith(f"vssl: serving tiny on unix:{path}, metrics on http://127.0.0.1:")
            with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), base_url="http://x") as client:
                assert client.post("/v1/embed", content=png(1), headers=PNG).status_code == 200
                assert client.get("/metrics").status_code == 404
            numbers = line.split("metrics on ")[1].strip()
            assert 'vssl_requests_total{path="/v1/embed",status="200"} 1.0' in httpx2.get(numbers).text
            front = numbers.removesuffix("/metrics")
            assert httpx2.get(f"{front}/readyz").status_code == 200
            assert httpx2.post(f"{front}/v1/embed", content=png(1), headers=PNG).status_code == 404
            process.send_signal(signal.SIGHUP)
            assert process.communicate(timeout=60)[1] == ""
        finally:
            process.kill()
    assert process.returncode == 0
    assert not path.exists()


def test_the_log_says_who_asked_what_and_what_it_took(tiny_bundle: Bundle) -> None:
    flags = ["--log-requests", "--no-log-health", "--trusted-proxies", "127.0.0.0/8"]
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "X-Forwarded-For": "192.0.2.7"}
    with running(tiny_bundle.location, *flags) as server:
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        httpx2.post(f"{server.url}/v1/embed", content=png(9), headers=PNG | trace)
        httpx2.get(f"{server.url}/v2/models/tiny")
        lines = [json.loads(line) for line in server.stop(signal.SIGTERM).splitlines()]
    assert [(line["method"], line["route"]) for line in lines] == [("POST", "/v1/embed"), ("GET", "/v2/models/{name}")]
    assert lines[0].items() >= {"images": 1, "bytes": len(png(9)), "client": "192.0.2.7", "key": None}.items()
    assert lines[0]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert lines[0]["inference_ms"] > 0 <= lines[0]["queue_ms"]
    assert lines[1].items() >= {"images": None, "bytes": 0, "client": "127.0.0.1", "inference_ms": None}.items()


def test_a_client_is_not_believed_about_who_it_is(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, "--log-requests", "--trusted-proxies", "192.0.2.1") as server:
        httpx2.get(f"{server.url}/readyz", headers={"X-Forwarded-For": "192.0.2.7"})
        [line] = server.stop(signal.SIGTERM).splitlines()
    assert json.loads(line)["client"] == "127.0.0.1"


def test_a_log_that_nobody_reads_stops_no_request(tiny_bundle: Bundle) -> None:
    """A pipe holds 64 KiB; what is refused as no HTTP must not block either."""
    path = "/v1/nothing/" + "x" * 400
    with running(tiny_bundle.location, "--log-requests") as server:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            for _ in range(300):
                assert client.get(path).status_code == 404
            assert client.get("/readyz").status_code == 200
        lines = server.stop(signal.SIGTERM).splitlines()
    assert all(json.loads(line)["status"] for line in lines)
    assert len(lines) == 301


def test_lines_over_the_bound_are_dropped_and_counted(served: Served) -> None:
    import logging

    def dropped() -> float:
        text = served.client.get("/metrics").text
        return float(text.split("\nvssl_log_lines_dropped_total ")[1].split("\n")[0])

    before = dropped()
    reads, writes = os.pipe()
    thread = LogThread(writes, 10)
    for _ in range(200):
        thread.emit(logging.makeLogRecord({"msg": "x" * 4096}))
    assert 200 - 10 - 17 <= dropped() - before <= 190  # a pipe takes 16 of them, and the thread holds one
    os.close(reads)
    thread.close()
    os.close(writes)


@pytest.mark.slow
def test_new_connections_get_the_new_certificate(tiny_bundle: Bundle, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    pytest.importorskip("tritonclient.grpc")
    import grpc

    flags = ["--tls-certificate", str(certificate), "--tls-key", str(key), "--grpc-port", "0"]
    with running(tiny_bundle.location, *flags) as server:
        grpc_address = server.line.partition("grpc://")[2].strip().split(":")
        make_certificate(tmp_path)
        for host, port in (server.address, (grpc_address[0], int(grpc_address[1]))):
            until(lambda at=(host, port): ssl.get_server_certificate(at) == certificate.read_text())  # type: ignore[misc]
        assert grpc.ssl_channel_credentials(certificate.read_bytes())
        assert httpx2.get(f"{server.url}/readyz", verify=ssl.create_default_context(cafile=certificate)).is_success


def test_workers_end_while_they_start(tiny_bundle: Bundle) -> None:
    """Told as soon as the first is there: the others must not start for ever after."""
    with vssl_serve(tiny_bundle.location, "--port", "0", "--workers", "3") as process:
        try:
            until(lambda: bool(_children(process.pid)))
            process.send_signal(signal.SIGTERM)
            _, written = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, written) == (0, "")


def _children(pid: int) -> list[str]:
    return [
        child
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def metrics_folders() -> set[Path]:
    return set(Path(os.environ.get("TMPDIR", "/tmp")).glob("vssl-metrics-*"))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_workers_leave_no_folder_behind(
    tiny_bundle: Bundle, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running(tiny_bundle.location, "--workers", "2") as server:
        assert metrics_folders()
        pids = children(server)
        server.process.send_signal(number)
        _, written = server.process.communicate(timeout=60)
        assert (server.process.returncode, written) == (-9 if number == signal.SIGKILL else 0, "")
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert not metrics_folders()


CLOSING = """
import os, sys, threading
from pathlib import Path
from vssl_server.process import serve as serving
from vssl_server.decoding.pool import Pool
from vssl_server.settings import Settings

class Stuck(Pool):  # one of its threads decodes for ever
    def __exit__(self, *error):
        print("closing", file=sys.stderr, flush=True)
        threading.Event().wait(600)

serving.Pool = Stuck
serving.run([Path(sys.argv[1])], Settings(port=0))
"""


def test_a_second_interruption_ends_what_is_closing(tiny_bundle: Bundle) -> None:
    command = [sys.executable, "-c", CLOSING, str(tiny_bundle.location)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            announced(process)
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() == "closing\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()


def test_http_drains_while_grpc_does(tiny_bundle: Bundle) -> None:
    """A call whose message never comes is in flight over gRPC for the whole deadline; HTTP does not wait for that."""
    pytest.importorskip("grpc_health")
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    release = threading.Event()

    def never() -> Iterator[bytes]:
        release.wait(60)
        yield from ()

    with running(tiny_bundle.location, "--grpc-port", "0") as server:
        with grpc.insecure_channel(server.line.partition("grpc://")[2].strip()) as channel:
            grpc.channel_ready_future(channel).result(60)
            call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer").future(never())
            # What comes behind its head on the connection is answered: so the head is there.
            assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
            stop_listening(server)
            assert not call.done()
            call.cancel()
            release.set()
        assert "Traceback" not in server.ended()  # gRPC may tell that it gave the call up


def test_the_loop_s_lag_is_measured(served: Served) -> None:
    until(lambda: "vssl_event_loop_lag_duration_seconds_count 0.0" not in served.client.get("/metrics").text)


def test_nobody_waits_while_the_page_of_metrics_is_written(served: Served, address: tuple[str, int]) -> None:
    """One series of it takes until a request that came meanwhile is answered."""
    begun, answered = threading.Event(), threading.Event()

    class Slow(Collector):
        def collect(self) -> Iterator[Metric]:
            begun.set()
            assert answered.wait(60)
            yield from ()

    slow = Slow()
    url = f"http://{address[0]}:{address[1]}"
    metrics.REGISTRY.register(slow)
    try:
        with ThreadPoolExecutor(1) as pool:
            page = pool.submit(httpx2.get, f"{url}/metrics", timeout=60)
            assert begun.wait(60)
            try:
                assert httpx2.get(f"{url}/healthz", timeout=30).status_code == 200
            finally:
                answered.set()
            assert page.result(60).status_code == 200
    finally:
        answered.set()
        metrics.REGISTRY.unregister(slow)

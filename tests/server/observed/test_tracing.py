"""Traces go to the collector that the standard variables name, and only then."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.server.conftest import png
from tests.server.process.test_serve import running
from vssl.bundle.reading import Bundle

PNG = {"Content-Type": "image/png"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Something that listens as a collector does, and what it was sent."""
    sent: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()
            thread.join()


def test_a_request_and_its_stages_reach_the_collector(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (url, sent):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "embedder")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        with running(tiny_bundle.location) as server:
            headers = PNG | {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            assert httpx2.post(f"{server.url}/v1/embed", content=png(9), headers=headers).status_code == 200
            assert httpx2.get(f"{server.url}/readyz").status_code == 200
            assert server.stop(signal.SIGTERM) == ""
    assert {path for path, _ in sent} == {"/v1/traces"}
    spans = spans_of(sent)
    services: set[str] = set()
    for _, body in sent:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            services |= {one.value.string_value for one in resource.resource.attributes if one.key == "service.name"}
    assert services == {"embedder"}
    assert set(spans) == {"POST /v1/embed", "decode", "queue", "inference"}
    request = spans["POST /v1/embed"]
    attributes = {one.key: one.value for one in request.attributes}
    assert attributes["http.route"].string_value == "/v1/embed"
    assert attributes["http.response.status_code"].int_value == 200
    for name in ("decode", "queue", "inference"):
        assert spans[name].parent_span_id == request.span_id
        assert request.start_time_unix_nano <= spans[name].start_time_unix_nano <= spans[name].end_time_unix_nano
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}


def test_a_call_over_grpc_too(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    with collector() as (url, sent):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        with running(tiny_bundle.location, "--grpc-port", "0") as server:
            with triton.InferenceServerClient(server.line.partition("grpc://")[2].strip()) as client:
                image = triton.InferInput("image", [1, 1], "BYTES")
                image.set_data_from_numpy(np.array([[png(9)]], np.object_))
                headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
                assert client.is_server_ready(headers=headers)
                client.infer("tiny_image", [image], headers=headers)
                with pytest.raises(triton.InferenceServerException):
                    client.get_model_metadata("none", headers=headers)
            assert server.stop(signal.SIGTERM) == ""
    spans = spans_of(sent)
    calls = [f"inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelMetadata")]
    assert set(spans) == {*calls, "decode", "queue", "inference"}
    for name in ("decode", "queue", "inference"):
        assert spans[name].parent_span_id == spans[calls[0]].span_id
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert [spans[name].status.code for name in calls] == [0, 2]


def spans_of(sent: list[tuple[str, bytes]]) -> dict[str, Any]:
    requests = [ExportTraceServiceRequest.FromString(body) for _, body in sent]
    scopes = [scope for request in requests for one in request.resource_spans for scope in one.scope_spans]
    return {span.name: span for scope in scopes for span in scope.spans}


def test_without_the_variables_no_exporter_is_loaded(tiny_bundle: Bundle, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from starlette.testclient import TestClient\n"
        "from tests.server.conftest import png, serving\n"
        "from vssl.bundle.reading import open_bundle\n"
        "with serving(open_bundle(Path(sys.argv[1]))) as served:\n"
        "    assert served.client.post('/v1/embed', content=png(9), headers={'Content-Type': 'image/png'}).is_success\n"
        "assert not [m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", script, str(tiny_bundle.location)], check=True, env=environment)

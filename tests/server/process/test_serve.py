"""`vssl serve` as a process of its own: start, requests over TCP, and every way to end."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import onnx
import onnxruntime
import pytest

from tests.server.conftest import expected, png
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.bundle.writing import write_bundle
from vssl.memory import cores

PNG = {"Content-Type": "image/png"}


def vssl_serve(bundle: Path, *flags: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "vssl.cli", "serve", str(bundle), *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


class Server:
    """A process that listens."""

    def __init__(self, process: "subprocess.Popen[str]", line: str) -> None:
        self.process, self.line = process, line
        self.url = line.split(" on ")[1].split(" and ")[0].strip()
        host, port = self.url.partition("://")[2].split(":")
        self.address = (host, int(port))

    def stop(self, number: int) -> str:
        """Send a signal, wait for the end, which must be an orderly one; everything it wrote meanwhile."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> str:
        _, written = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, written
        return written


@contextmanager
def running(bundle: Path, *flags: str) -> Iterator[Server]:
    with vssl_serve(bundle, "--port", "0", *flags) as process:
        assert process.stderr is not None
        try:
            # Before it stands what was decided about the engine's threads.
            yield Server(
                process, next(line for line in iter(process.stderr.readline, "") if " small model" not in line)
            )
        finally:
            process.kill()


@pytest.mark.skipif(cores() == 1, reason="one core can't be shared out")
def test_what_was_decided_about_the_threads_is_told(tiny_bundle: Bundle) -> None:
    with vssl_serve(tiny_bundle.location, "--port", "0", "--small-model") as process:
        assert process.stderr is not None
        told, line = process.stderr.readline(), process.stderr.readline()
        shown = httpx2.get(f"{Server(process, line).url}/metrics").text
        process.kill()
    assert told.startswith(f"vssl: tiny is a small model: {cores() // 2} of {cores()} cores for a batch")
    threads = {"part": cores() // 2, "full": cores()}
    for batch, count in threads.items():
        assert f'vssl_engine_threads{{batch="{batch}",model="tiny",version="1"}} {count}.0' in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_ready_embed_and_stop(tiny_bundle: Bundle, number: int) -> None:
    with running(tiny_bundle.location) as server:
        assert server.line == f"vssl: serving tiny on {server.url}\n"
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
        shown = httpx2.get(f"{server.url}/metrics").text
        assert 'vssl_model_info{model="tiny",precision="fp32",provider="cpu",version="1"} 1.0' in shown
        assert f'vssl_build_info{{onnxruntime="{onnxruntime.__version__}",python="' in shown
        answer = httpx2.post(f"{server.url}/v1/embed", content=png(9), headers=PNG)
        assert answer.status_code == 200
        truth = expected(tiny_bundle, [png(9)])
        assert answer.json()["data"][0]["embedding"] == pytest.approx(truth.embedding[0].tolist(), abs=1e-6)
        assert server.stop(number) == ""
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/healthz")


def half_a_request(server: Server, data: bytes) -> tuple[socket.socket, bytes]:
    """A connection that has sent all of a request but the last bytes of its body, and those bytes."""
    head = f"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(data)}\r\n\r\n"
    connection = socket.create_connection(server.address, timeout=60)
    connection.sendall(head.encode() + data[:-10])
    return connection, data[-10:]


def stop_listening(server: Server, number: int = signal.SIGTERM) -> None:
    """Tell the server to stop and wait until it has begun to: it then closes connections that are idle."""
    idle = http.client.HTTPConnection(*server.address, timeout=60)
    idle.request("GET", "/healthz")
    assert idle.getresponse().read()
    server.process.send_signal(number)
    assert idle.sock.recv(1) == b""
    idle.close()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())


def test_what_is_in_flight_when_the_server_is_told_to_stop_is_answered(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location) as server:
        connection, rest = half_a_request(server, png(9))
        with connection:
            stop_listening(server)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(server.address)
            connection.sendall(rest)
            status, body = read_answer(connection)
        assert status == 200
        assert body["model"] == "tiny"
        assert "Traceback" not in server.ended()


def test_a_body_that_never_comes_does_not_keep_the_server_from_ending(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, "--deadline-seconds", "0.5") as server:
        connection, _ = half_a_request(server, png(9))
        with connection:
            stop_listening(server)
            status, body = read_answer(connection)
        assert status == 503
        assert "stopping" in str(body["error"])
        assert "Traceback" not in server.ended()


def test_a_second_interruption_ends_at_once(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location) as server:
        connection, _ = half_a_request(server, png(9))
        with connection:
            stop_listening(server, signal.SIGINT)
            server.process.send_signal(signal.SIGINT)
            _, written = server.process.communicate(timeout=60)
        assert (server.process.returncode, written) == (130, "")


def test_a_client_that_goes_away_leaves_no_trace(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location) as server:
        connection, _ = half_a_request(server, png(9))
        connection.close()
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        assert server.stop(signal.SIGTERM) == ""


def failed(bundle: Path, *flags: str) -> tuple[int, str]:
    with vssl_serve(bundle, *flags) as process:
        _, written = process.communicate(timeout=60)
    assert len(written.splitlines()) == 1, written
    return process.returncode, written


def test_a_busy_port_is_one_line(tiny_bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, written = failed(tiny_bundle.location, "--port", port)
    assert status == 1
    assert f"can't listen on 127.0.0.1, port {port}: Address already in use" in written


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.1", "x" * 80])
def test_an_address_that_is_not_ours_is_one_line(tiny_bundle: Bundle, host: str) -> None:
    status, written = failed(tiny_bundle.location, "--host", host, "--port", "0")
    assert status == 1
    assert f"can't listen on {host}, port 0: " in written


def test_a_tampered_bundle_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    model = bundle.location / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    status, written = failed(bundle.location, "--port", "0")
    assert status == 1
    assert "model.onnx does not match its hash" in written


def test_a_model_that_cannot_run_ends_the_server(tmp_path: Path, tiny_bundle: Bundle) -> None:
    model = onnx.load_from_string(tiny_bundle.read("model.onnx"))
    # 48 numbers an image can't be cut into rows of 7, which shows only when the model runs.
    for name, value in (("flat", np.array([-1, 7])), ("projection", np.ones((7, 16), np.float32))):
        [constant] = [constant for constant in model.graph.initializer if constant.name == name]
        constant.CopyFrom(onnx.numpy_helper.from_array(value, name))
    fields = tiny_bundle.manifest.model_dump(exclude={"id", "files"})
    write_bundle(tmp_path / "broken", fields, {"model.onnx": model.SerializeToString()})
    with vssl_serve(tmp_path / "broken", "--port", "0") as process:
        _, written = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "vssl: tiny: the engine could not be warmed up: " in written
    assert "Traceback" not in written
    assert "serving" not in written


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    status, written = failed(tmp_path / "none", "--port", "0")
    assert status == 2
    assert "no such bundle" in written


def test_a_setting_that_is_not_valid(tiny_bundle: Bundle) -> None:
    status, written = failed(tiny_bundle.location, "--batch-size", "0")
    assert status == 2
    assert "--batch-size (VSSL_BATCH_SIZE)" in written

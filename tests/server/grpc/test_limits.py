"""Connections that are held: gRPC's limits in time and number, for clients that need no key for it."""

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc_health")

import grpc
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.server.conftest import Served, expected, serving
from tests.server.grpc.test_service import FILES, check, objects, over_grpc
from vssl.bundle.reading import Bundle
from vssl_server.grpc.calls import SERVICE
from vssl_server.grpc.health import WATCHES

ASKED = health_pb2.HealthCheckRequest()


@pytest.fixture(scope="module")
def limited(tiny_bundle: Bundle) -> Iterator[Served]:
    limits: dict[str, Any] = {"grpc_idle_seconds": 0.3, "grpc_age_seconds": 1, "receive_seconds": 0.5}
    with serving(tiny_bundle, name="held", grpc_streams=5, deadline_seconds=1, **limits) as served:
        yield served


@pytest.fixture(scope="module")
def address(limited: Served) -> Iterator[str]:
    with over_grpc(limited) as here:
        yield here


def states(channel: grpc.Channel) -> Any:
    """The channel's states as they come."""
    found: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(found.put)
    return found


def test_an_idle_connection_is_closed_and_opens_again(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        seen = states(channel)
        for _ in range(2):
            assert health_pb2_grpc.HealthStub(channel).Check(ASKED).status == 1
            while seen.get(timeout=60) != grpc.ChannelConnectivity.READY:
                pass
            assert seen.get(timeout=60) == grpc.ChannelConnectivity.IDLE


def test_a_connection_ends_with_its_age_and_what_it_watches_too(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(ASKED)
        assert next(watch).status == 1
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as raised:
            next(watch)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - started < 60


def test_requests_go_on_over_the_ages_of_connections(address: str, tiny_bundle: Bundle) -> None:
    with triton.InferenceServerClient(address) as remote:
        started = time.monotonic()
        while time.monotonic() - started < 2.5:
            check(remote.infer("held_image", [objects(FILES)]), expected(tiny_bundle, FILES))


def nothing(over: threading.Event) -> Iterator[bytes]:
    over.wait(60)
    yield b""


def test_a_message_that_does_not_come(address: str) -> None:
    """The head of a request alone, as no library sends it for this method."""

    for method in (f"/{SERVICE}/ModelInfer", f"/{SERVICE}/ServerLive", "/grpc.health.v1.Health/Check"):
        over = threading.Event()
        with grpc.insecure_channel(address) as channel:
            call = channel.stream_unary(method).future(nothing(over))
            try:
                with pytest.raises(grpc.RpcError) as raised:
                    call.result(60)
            finally:
                over.set()
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert raised.value.details() == "the message did not come within 0.5 seconds"


def test_without_a_key_no_message_is_read(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("key\n")
    with (
        serving(tiny_bundle, name="unread", api_keys_file=tmp_path / "keys") as served,
        over_grpc(served) as address,
        grpc.insecure_channel(address) as channel,
    ):
        over = threading.Event()
        call = channel.stream_unary(f"/{SERVICE}/ModelInfer").future(nothing(over))
        try:
            with pytest.raises(grpc.RpcError) as raised:
                call.result(60)
        finally:
            over.set()
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_request_without_a_message(address: str) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.stream_unary(f"/{SERVICE}/ModelInfer")(iter(()))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_streams_of_a_connection_are_counted(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(ASKED) for _ in range(5)]
        assert [next(watch).status for watch in watches] == [1] * 5
        with pytest.raises(grpc.RpcError) as raised:
            stub.Check(ASKED, timeout=0.1)  # the client keeps it back
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        watches[0].cancel()
        assert stub.Check(ASKED, timeout=60).status == 1


def test_those_who_watch_are_counted(tiny_bundle: Bundle) -> None:
    with (
        serving(tiny_bundle, name="watched", grpc_streams=2 * WATCHES) as served,
        over_grpc(served) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(ASKED) for _ in range(WATCHES)]
        assert {next(watch).status for watch in watches} == {1}
        with pytest.raises(grpc.RpcError) as raised:
            next(stub.Watch(ASKED))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.Check(ASKED).status == 1

"""Several servers of one model: work goes where there is least, and one that dies costs only retries."""

import asyncio
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import Proxy, proxied, serving
from tests.ports import free_port
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_client import AsyncClient, Client, ConnectionFailed, EmbeddingResult, ModelChanged
from vssl_client.exchange import retry
from vssl_client.exchange.servers import Servers


def test_each_request_goes_to_the_server_with_the_least_under_way() -> None:
    servers = Servers(3)
    with servers.taken(10) as first, servers.taken(5) as second, servers.taken(1) as third:
        assert sorted((first, second, third)) == [0, 1, 2]
        with servers.taken(1) as fourth:
            assert fourth == third
            with servers.taken(9) as fifth:
                assert fifth == third
                with servers.taken(1) as sixth:
                    assert sixth == second
    with servers.taken(7) as again:
        assert again == first


def test_a_request_that_failed_goes_to_another_server_even_if_that_one_has_more_under_way() -> None:
    servers = Servers(2)
    with servers.taken(10) as busy, servers.taken(1, failed=[1 - busy]) as taken:
        assert taken == busy
    with servers.taken(10) as busy, servers.taken(1, failed=[0, 1]) as taken:
        assert taken != busy
    servers.failed(0, None)
    with servers.taken(1, failed=[1]) as taken:
        assert taken == 1  # the other one rests


def test_a_server_that_failed_rests_until_it_answers_or_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers(2)
    servers.failed(0, None)
    assert servers.rested() == [1]
    for _ in range(3):
        with servers.taken(1) as taken:
            assert taken == 1
    assert servers.pause() == 0.0
    servers.failed(1, 20.0)
    assert servers.rested() == [0, 1]
    assert 0.0 < servers.pause() <= 0.5
    with servers.taken(1) as taken:
        assert taken == 0
    servers.answered(1)
    assert servers.rested() == [1]
    monkeypatch.setattr(retry, "FIRST", 0.0)
    servers.failed(0, None)
    assert servers.rested() == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=2000))
def test_pauses_stay_bounded_whatever_happens(events: list[tuple[int, bool]]) -> None:
    servers = Servers(3)
    for server, fine in events:
        servers.answered(server) if fine else servers.failed(server, None)
        assert 0.0 <= servers.pause() <= retry.LONGEST
        assert servers.rested()


def answered(proxy: Proxy) -> int:
    return proxy.seen.qsize()


def test_two_servers_share_the_work(server: str, tiny_bundle: Bundle) -> None:
    images = pictures(600)
    with proxied(server) as (one, first), proxied(server) as (other, second), Client([first, second]) as client:
        assert_same(client.embed(images), oracle(tiny_bundle, images))
        assert min(answered(one), answered(other)) >= 2


def test_a_slow_server_gets_less(server: str, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops what it held for a second, and then rests for longer than all else takes, on a busy machine too."""
    monkeypatch.setattr(retry, "FIRST", retry.LONGEST)
    images = pictures(64 * 12)
    with proxied(server) as (slow, first), proxied(server) as (fast, second):
        slow.always = "hang"

        def recover() -> None:
            slow.always = None
            slow.released.set()

        with Client([first, second], connections=1) as client:
            threading.Timer(1.0, recover).start()
            assert_same(client.embed(images), oracle(tiny_bundle, images))
        assert answered(slow) <= 3 < answered(fast)


@pytest.mark.parametrize("way", ["threads", pytest.param("event loop", marks=pytest.mark.slow)])
def test_one_that_dies_costs_only_retries(way: str, tiny_bundle: Bundle) -> None:
    images = pictures(64 * 30)
    with serving(tiny_bundle.location) as survivor, proxied(survivor) as (proxy, mortal):

        def embed() -> EmbeddingResult:
            if way == "threads":
                with Client([mortal, survivor], retries=0) as client:
                    return client.embed(images)

            async def run() -> EmbeddingResult:
                async with AsyncClient([mortal, survivor], retries=0) as client:
                    return await client.embed(images)

            return asyncio.run(run())

        def die() -> None:
            proxy.seen.get()
            proxy.seen.get()
            proxy.always = "drop"

        killer = threading.Thread(target=die)
        killer.start()
        assert_same(embed(), oracle(tiny_bundle, images))
        killer.join()


@pytest.mark.parametrize("way", ["threads", "event loop"])
def test_the_last_one_that_answers_gets_no_more_than_it_may(way: str, server: str, tiny_bundle: Bundle) -> None:
    images = pictures(64 * 8)
    dead = [f"http://127.0.0.1:{free_port()}" for _ in range(3)]
    with proxied(server) as (proxy, survivor):
        under_way, most, lock, crowd = 0, 0, threading.Lock(), threading.Event()

        def count(path: str, body: bytes) -> bytes:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
                if under_way > 2:
                    crowd.set()
            crowd.wait(0.2)  # time enough for the others to come too
            with lock:
                under_way -= 1
            return body

        proxy.edit = count
        if way == "threads":
            with Client([*dead, survivor], connections=2) as client:
                result = client.embed(images)
        else:

            async def run() -> EmbeddingResult:
                async with AsyncClient([*dead, survivor], connections=2) as client:
                    return await client.embed(images)

            result = asyncio.run(run())
    assert_same(result, oracle(tiny_bundle, images))
    assert most == 2


def test_none_left_is_an_error(server: str, impatient: None) -> None:
    with proxied(server) as (one, first), proxied(server) as (other, second):
        one.always = other.always = "drop"
        with Client([first, second], retries=1) as client:
            with pytest.raises(ConnectionFailed):
                client.embed(pictures(3))
            with pytest.raises(ConnectionFailed):
                client.model()
        assert answered(one) >= 1 <= answered(other)


def test_servers_of_different_models_are_refused(server: str, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "other", "other")
    with (
        serving(tmp_path / "other") as other,
        Client([server, other]) as client,
        pytest.raises(ModelChanged, match=r"different models: tiny version 1.* and other version 1"),
    ):
        client.model()


def test_the_model_is_asked_of_those_that_answer(server: str, client: Client) -> None:
    with Client(["http://127.0.0.1:9", server], retries=0) as both:
        assert both.model() == client.model()


def test_no_server_at_all_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="at least one"):
        Client([])

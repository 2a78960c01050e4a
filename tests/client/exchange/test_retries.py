"""What a client does when the server or the way to it fails."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import Fault, Proxy, proxied
from vssl.bundle.reading import Bundle
from vssl_client import BadAnswer, Client, ClientError, ConnectionFailed, Overloaded, RequestRejected, ServerFailed
from vssl_client.exchange import retry
from vssl_client.exchange.retry import LONGEST, parse_retry_after, pause


@pytest.fixture
def proxy(server: str, impatient: None) -> Iterator[tuple[Proxy, str]]:
    with proxied(server) as pair:
        yield pair


@pytest.mark.parametrize(
    "fault", [(429, {"Retry-After": "0"}), (503, {"Retry-After": "0"}), (500, {}), (502, {}), "drop", "truncate"]
)
def test_what_passes_is_tried_again(proxy: tuple[Proxy, str], fault: Fault, tiny_bundle: Bundle) -> None:
    images = pictures(150)
    for _ in range(3):
        proxy[0].faults.put(fault)
    with Client(proxy[1], retries=3) as client:
        assert_same(client.embed(images), oracle(tiny_bundle, images))


FINAL: list[tuple[Fault, type[ClientError]]] = [
    ((429, {}), Overloaded),
    ((503, {}), Overloaded),
    ((500, {}), ServerFailed),
    ("drop", ConnectionFailed),
    ("truncate", ConnectionFailed),
]


@pytest.mark.parametrize(("fault", "error"), FINAL)
def test_what_does_not_pass_is_an_error_of_its_kind(
    proxy: tuple[Proxy, str], fault: Fault, error: type[ClientError]
) -> None:
    proxy[0].always = fault
    with Client(proxy[1], retries=2) as client, pytest.raises(error):
        client.embed(pictures(1))
    assert proxy[0].seen.qsize() == 3


@pytest.mark.parametrize(
    ("fault", "error"), [((400, {}), RequestRejected), ((401, {}), RequestRejected), ("garbage", BadAnswer)]
)
def test_what_can_not_pass_is_not_tried_again(proxy: tuple[Proxy, str], fault: Fault, error: type[ClientError]) -> None:
    proxy[0].always = fault
    with Client(proxy[1]) as client, pytest.raises(error):
        client.embed(pictures(1))
    assert proxy[0].seen.qsize() == 1


def test_an_answer_that_does_not_come_in_time_is_given_up(proxy: tuple[Proxy, str]) -> None:
    proxy[0].always = "hang"
    with Client(proxy[1], timeout=0.2, retries=1) as client, pytest.raises(ConnectionFailed, match="in time"):
        client.model()
    assert proxy[0].seen.qsize() == 2


def test_the_server_decides_how_long_to_wait(proxy: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    def at_once(_: int, retry_after: float | None) -> float:
        asked.append(retry_after)
        return 0.0

    monkeypatch.setattr(retry, "pause", at_once)
    proxy[0].always = (503, {"Retry-After": "7"})
    with Client(proxy[1], retries=2) as client, pytest.raises(Overloaded, match="not now") as caught:
        client.model()
    assert asked == [7.0] * 3
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)


def test_the_key_is_sent_and_never_shown(proxy: tuple[Proxy, str]) -> None:
    proxy[0].always = (401, {})
    with Client(proxy[1], api_key="s3cret") as client, pytest.raises(RequestRejected) as caught:
        client.model()
    assert "s3cret" not in str(caught.value)
    assert proxy[0].seen.get() == "Bearer s3cret"


@given(st.integers(0, 1000), st.none() | st.floats(0, 1e9))
def test_pauses_grow_stay_bounded_and_are_as_long_as_asked(attempt: int, asked: float | None) -> None:
    seconds = pause(attempt, asked)
    assert min(0.25 * 2.0 ** min(attempt, 20), LONGEST / 2) <= seconds <= 1.25 * LONGEST
    assert seconds >= min(asked or 0.0, LONGEST)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after(None) is None
    assert parse_retry_after("soon") is None
    assert parse_retry_after("3") == 3.0
    assert parse_retry_after("-1") == 0.0
    later = parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert later is not None
    assert 0 < later <= 60  # less what passed since
    assert parse_retry_after(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0.0


@given(st.text() | st.floats().map(str))
def test_no_retry_after_header_breaks_a_client(header: str) -> None:
    seconds = parse_retry_after(header)
    assert seconds is None or seconds >= 0
    assert 0 <= pause(0, seconds) < 60

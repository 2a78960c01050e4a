"""A page of another site neither reads galleries under its own name nor writes to them; programs need nothing."""

import http.client
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.conftest import Served, over_tcp, serving
from vssl.bundle.reading import Bundle
from vssl_server.access.hosts import LOOPBACK, host_allowed
from vssl_server.settings import is_loopback

PATHS = ("/ui", "/ui/page.js", "/v1/galleries", "/v1/galleries/shoes/images", "/v1/aliases/a", "/v1/jobs")
FREE = ("/healthz", "/metrics", "/v1/models", "/v1/galleriesque")


@pytest.fixture(scope="module")
def address(tiny_bundle: Bundle) -> Iterator[tuple[str, int]]:
    names: dict[str, Any] = {"allowed_hosts": "vssl.example, other.example:81", "cors_origins": "https://app.example"}
    with serving(tiny_bundle, name="hosts", **names) as served, over_tcp(served.client.app) as here:
        yield here


def asked(address: tuple[str, int], method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "vssl.example.evil", "localhost@evil", "other.example", ""],
)
def test_a_rebound_name_reads_no_gallery(address: tuple[str, int], host: str) -> None:
    for path in PATHS:
        status, body = asked(address, "GET", path, {"Host": host})
        assert (status, b'"host_not_allowed"' in body) == (421, True), path
    for path in FREE:
        assert asked(address, "GET", path, {"Host": host})[0] in (200, 404)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:99", "127.0.0.1:8000", "[::1]:8000", "vssl.example:1", "other.example:81"]
)
def test_the_servers_own_names(address: tuple[str, int], host: str) -> None:
    assert asked(address, "GET", "/v1/jobs/none", {"Host": host})[0] == 404  # through, and there are no galleries here


@pytest.mark.parametrize(
    ("headers", "method", "through"),
    [
        ({}, "DELETE", True),
        ({"Origin": "http://localhost:8000"}, "GET", True),
        ({"Origin": "https://evil.example"}, "GET", True),  # whose page can't read the answer
        ({"Origin": "http://localhost:8000"}, "DELETE", False),
        ({"Origin": "http://localhost:8000", "X-VSSL-Request": "1"}, "DELETE", True),
        ({"Origin": "https://app.example", "X-VSSL-Request": "1"}, "PATCH", True),
        ({"Origin": "https://evil.example", "X-VSSL-Request": "1"}, "PATCH", False),
        ({"Origin": "http://localhost:8001", "X-VSSL-Request": "1"}, "POST", False),
        ({"Origin": "null", "X-VSSL-Request": "1"}, "PUT", False),
        ({"Origin": "localhost:8000", "X-VSSL-Request": "1"}, "PUT", False),
    ],
)
def test_a_page_writes_only_where_it_may(
    address: tuple[str, int], headers: dict[str, str], method: str, through: bool
) -> None:
    status, body = asked(address, method, "/v1/galleries/none/x", {"Host": "localhost:8000"} | headers)
    assert (status, b'"cross_origin"' in body) == ((404, False) if through else (403, True))


def test_a_search_is_no_write(address: tuple[str, int]) -> None:
    foreign = {"Host": "localhost", "Origin": "https://evil.example"}
    assert asked(address, "POST", "/v1/galleries/shoes/search", foreign)[0] == 404
    assert asked(address, "POST", "/v1/galleries/shoes/images", foreign)[0] == 403


def test_a_refusal_is_counted(served: Served) -> None:
    assert served.client.get("/v1/galleries").status_code == 421  # it calls itself testserver
    assert 'cause="host_not_allowed"' in served.client.get("/metrics").text


@given(st.sampled_from(sorted(LOOPBACK)), st.text("a.:@[]1", max_size=3), st.text(":0a.@/", max_size=4))
def test_what_only_contains_a_loopback_name_is_none(name: str, before: str, after: str) -> None:
    whole = before == "" and (after == "" or (after[0] == ":" and set(after[1:]) == {"0"}))
    assert host_allowed(f"{before}{name}{after}", (), False) == whole


@pytest.mark.parametrize(
    ("listens", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_where_it_listens(listens: str, loopback: bool) -> None:
    assert is_loopback(listens) == loopback


def test_bound_elsewhere_an_address_is_no_rebound_name() -> None:
    assert host_allowed("10.0.0.7:8000", (), True)
    assert host_allowed("[fd00::7]:8000", (), True)
    assert not host_allowed("vssl.svc", (), True)
    assert host_allowed("vssl.svc", ("vssl.svc",), True)
    assert host_allowed("anything", ("*",), False)

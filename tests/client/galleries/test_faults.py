"""A server, and a line to it, that fail: what may be repeated is, what may not is not, and answers are read warily."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import pictures
from tests.client.processes import Fault, Proxy, proxied
from vssl.errors import VsslError
from vssl_client import BadAnswer, Client, ConnectionFailed, Overloaded
from vssl_client.galleries.blocking import Gallery
from vssl_client.galleries.remote.wire import problem
from vssl_gallery.errors import StoreUnavailable

FILES = pictures(4)


@pytest.fixture
def faulty(server: str, impatient: None) -> Iterator[tuple[Proxy, Gallery]]:
    """The gallery `shoes` with four images, behind a line that can fail."""
    with Client(server) as direct, direct.gallery("boots") as gallery:
        gallery.create()
        gallery.add(FILES, ids=list("abcd"), labels=["x", "x", "y", "y"])
        with proxied(server) as (proxy, address), Client(address, retries=2) as client:
            yield proxy, client.gallery("boots")
        gallery.drop()


def test_an_upsert_whose_answer_is_lost_is_sent_again(faulty: tuple[Proxy, Gallery]) -> None:
    proxy, shoes = faulty
    faults: list[Fault] = ["truncate", "drop"]
    for fault in faults:
        proxy.faults.put(fault)
        added = shoes.add(pictures(2, seed=1), ids=["e", "f"])
        assert [one.error for one in added.images] == [None, None]
        assert shoes.info().rows == 6
    proxy.faults.put((503, {"Retry-After": "0"}))
    assert [one.id for one in shoes.search(id="a", k=2, where={"label": "x"}).results[0].neighbours] == ["a", "b"]


def test_a_delete_whose_answer_is_lost_is_not(faulty: tuple[Proxy, Gallery]) -> None:
    proxy, shoes = faulty
    proxy.faults.put("truncate")
    with pytest.raises(ConnectionFailed):
        shoes.delete(where={"label": "x"})
    assert shoes.info().rows == 2
    proxy.faults.put("drop")
    with pytest.raises(ConnectionFailed):
        shoes.calibrate()
    proxy.faults.put((429, {"Retry-After": "0"}))  # the server has not begun
    assert shoes.delete(ids=["c"]).rows == 1


def test_what_no_try_cures_is_raised(faulty: tuple[Proxy, Gallery], tmp_path: Path) -> None:
    proxy, shoes = faulty
    proxy.faults.put("garbage")
    with pytest.raises(BadAnswer):
        shoes.info()

    def counted(_: str, body: bytes) -> bytes:
        proxy.faults.put("truncate")  # of the next answer, the file
        return body

    proxy.edit = counted
    with pytest.raises(ConnectionFailed):
        shoes.export(tmp_path / "rows.csv", {"label": "y"})
    for body in (b"[]", b"{}", b'{"data": 3, "version": null}', b"null", b'{"data": [{"neighbours": [3]}], "next": 7}'):
        proxy.edit = lambda _, answer, body=body: body.ljust(len(answer))  # type: ignore[misc]
        with pytest.raises(BadAnswer):
            shoes.search(id="a")
        with pytest.raises(BadAnswer):
            shoes.rows(["a"])
        with pytest.raises(BadAnswer):
            shoes.classify(id="a")
    proxy.edit = lambda _, answer: answer
    proxy.always = (503, {})
    with pytest.raises(Overloaded):
        shoes.info()
    assert not (tmp_path / "rows.csv").exists()


def test_errors_have_the_type_of_their_code() -> None:
    assert isinstance(problem("store_unavailable", "away"), StoreUnavailable)
    assert isinstance(problem("invalid_option", "k"), VsslError)
    assert problem("queue_full", "busy") is None
    assert problem(None, "busy") is None

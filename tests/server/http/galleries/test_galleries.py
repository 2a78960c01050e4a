"""The galleries of a server as a whole: none unless asked for, lazily opened, and no harm to embedding when away."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import Served, png
from tests.server.http.galleries.conftest import filled, galleries_of, with_galleries
from tests.server.http.test_errors import error
from tests.server.process.test_serve import failed
from vssl.bundle.reading import Bundle
from vssl_gallery.store.opening import PACKAGES, check_driver
from vssl_server.http.galleries import galleries as served_galleries

PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--galleries", "g", "--workers", "2"), "--workers and --galleries don't go together"),
        (("--galleries", "ftp://x"), "ftp://: galleries lie in a folder"),
    ],
)
def test_what_can_not_be_served_is_one_line(tiny_bundle: Bundle, flags: tuple[str, ...], says: str) -> None:
    status, written = failed(tiny_bundle.location, "--port", "0", *flags)
    assert status == 2
    assert says in written


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, extra in (("", "gallery"), ("postgresql://x", "postgres"), ("qdrant://x", "qdrant")):
        monkeypatch.setitem(PACKAGES, extra, ("not_there",))
        with pytest.raises(Exception, match=rf"need not_there, .* pip install 'vssl\[{extra}\]'"):
            check_driver(scheme)


def test_without_the_flag_there_are_none(served: Served) -> None:
    answer = served.client.get("/v1/galleries", headers={"Host": "localhost"})
    error(answer, 404, "not_found")


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        pass


def test_a_store_that_is_away_stops_no_embedding(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_galleries, "CHECK_SECONDS", 0.05)
    place = tmp_path / "galleries"
    place.write_text("a file, where a folder of galleries was")
    with with_galleries(tiny_bundle, tmp_path, "away") as client:
        until(lambda: "galleries" in client.get("/readyz").json())
        assert client.get("/readyz").status_code == 200
        assert "is a file" in client.get("/readyz").json()["galleries"]
        assert client.post("/v1/embed", content=png(1), headers=PNG).status_code == 200
        assert "\nvssl_gallery_ready 0.0" in client.get("/metrics").text
        error(client.get("/v1/galleries"), 409, "not_a_gallery")
        place.unlink()
        until(lambda: "galleries" not in client.get("/readyz").json())  # it is back, and nobody had to do anything
        assert client.get("/v1/galleries").json() == {"data": [], "next": None}
        assert "\nvssl_gallery_ready 1.0" in client.get("/metrics").text
        assert 'vssl_store_duration_seconds_count{op="list"} ' in client.get("/metrics").text


def test_a_database_that_is_down_is_503(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"postgresql://u:secret@127.0.0.1:{unheard.getsockname()[1]}/g"
        with with_galleries(tiny_bundle, tmp_path, "down", galleries=address, deadline_seconds=5.0) as client:
            answer = client.get("/v1/galleries")
            assert answer.status_code in (503, 504), answer.text
            assert answer.json()["error"]["code"] in ("store_unavailable", "deadline_exceeded")
            assert "secret" not in answer.text
            assert client.post("/v1/embed", content=png(1), headers=PNG).status_code == 200


def test_create_show_and_drop(client: TestClient, tiny_bundle: Bundle) -> None:
    path = "/v1/galleries/made"
    body = {"fields": {"year": "integer"}, "keep_thumbnails": False}
    made = client.put(path, json=body)
    assert (made.status_code, client.put(path, json=body).status_code) == (201, 200)
    manifest = tiny_bundle.manifest
    assert made.json() == {
        "name": "made",
        "model": "galleries",
        "model_version": manifest.version,
        "encoder_id": manifest.encoder_id,
        "bundle_id": manifest.id,
        "dimension": manifest.outputs.dimension,
        "fields": {"year": "integer"},
        "keep_thumbnails": False,
        "rows": 0,
        "version": made.json()["version"],
        "indexed_rows": 0,
        "recall": None,
        "bytes": made.json()["bytes"],
        "calibration": "uncalibrated",
        "classes": None,
        "labelled": 0,
        "aliases": [],
        "scopes": ["search", "write"],
        "served": True,
    }
    error(client.put(path, json={}), 409, "gallery_exists")
    error(client.put("/v1/galleries/Made", json={}), 400, "invalid_name")
    error(client.put("/v1/galleries/other", json={"fields": {"id": "text"}}), 400, "invalid_name")
    error(client.put("/v1/galleries/other", json={"model": "none"}), 404, "model_not_found")
    error(client.put("/v1/galleries/other", json={"colour": 1}), 422, "invalid_option")
    error(client.get("/v1/galleries/nothing"), 404, "unknown_gallery")
    assert client.put("/v1/aliases/mine", json={"gallery": "made"}).json() == {"alias": "mine", "gallery": "made"}
    error(client.delete("/v1/galleries/mine"), 409, "is_alias")
    assert client.delete(path).json() == {"rows": 0}
    error(client.get(path), 404, "unknown_gallery")
    error(client.get("/v1/galleries/mine"), 404, "unknown_gallery")


def test_an_alias_moves_in_one_step(client: TestClient) -> None:
    filled(client, "old", 3)
    filled(client, "new", 5)
    for target, rows in (("old", 3), ("new", 5), ("old", 3)):
        client.put("/v1/aliases/current", json={"gallery": target})
        shown = client.get("/v1/galleries/current").json()
        assert (shown["name"], shown["rows"], shown["aliases"]) == (target, rows, ["current"])
    assert {"alias": "current", "gallery": "old"} in client.get("/v1/aliases").json()["data"]
    error(client.put("/v1/aliases/old", json={"gallery": "new"}), 409, "gallery_exists")
    assert client.delete("/v1/aliases/current").json() == {"alias": "current"}
    error(client.get("/v1/galleries/current"), 404, "unknown_gallery")


def test_what_another_program_changes_is_seen(client: TestClient) -> None:
    gallery = filled(client, "shared", 3)
    place = galleries_of(client).place()
    place.set_alias("theirs", "shared")
    assert client.get("/v1/galleries/theirs").json()["rows"] == 3
    gallery.delete({"id": "image-1"})
    assert client.get("/v1/galleries/theirs").json()["rows"] == 2

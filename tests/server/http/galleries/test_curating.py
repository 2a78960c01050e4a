"""What to look at, over HTTP: the same as the library finds, in pages, and once for a version."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from tests.gallery.samples import as_rows, some_rows, unit_vectors
from tests.server.http.galleries.conftest import ended, filled, galleries_of, stored
from tests.server.http.galleries.test_map_form import read
from tests.server.http.test_errors import error
from vssl_gallery.curating import find_duplicates, find_outliers, map_of, pick_next
from vssl_gallery.gallery import Gallery
from vssl_gallery.map import main_directions
from vssl_gallery.store.rows import schema, vector_column
from vssl_server.http.galleries import curating
from vssl_server.http.galleries.map_form import scaled

SHOES = "/v1/galleries/shoes"


@pytest.fixture(scope="module")
def shoes(client: TestClient) -> Gallery:
    gallery = filled(client, "shoes", 0)
    near = np.repeat(unit_vectors(20, gallery.spec.dimension), 3, axis=0)
    gallery.add(some_rows(60, dimension=gallery.spec.dimension, embedding=vector_column(near)))
    return gallery


def pages(client: TestClient, path: str) -> list[Any]:
    found, after = [], ""
    while True:
        answer = client.get(f"{path}{after}").json()
        found += answer["data"]
        if answer["next"] is None:
            return found
        after = f"&after={answer['next']}"


def test_duplicates_come_in_pages(client: TestClient, shoes: Gallery) -> None:
    true = find_duplicates(shoes, 0.999)
    assert len(true) == 20
    for limit in (3, 20, 1000):
        found = pages(client, f"{SHOES}/duplicates?threshold=0.999&limit={limit}")
        assert [(one["kept"], one["others"]) for one in found] == [(one.kept, one.others) for one in true]
        assert all(one["similarity"] == pytest.approx(1, abs=1e-5) for one in found)
    error(client.get(f"{SHOES}/duplicates?after=x"), 422, "invalid_option")
    error(client.get(f"{SHOES}/duplicates?threshold=0"), 422, "invalid_option")


def test_outliers_and_picks(client: TestClient, shoes: Gallery) -> None:
    found = client.get(f"{SHOES}/outliers?limit=7").json()
    true = find_outliers(shoes, 7)
    assert [one["id"] for one in found["data"]] == [one.id for one in true]
    assert found["data"][0]["distance"] == pytest.approx(true[0].distance)
    assert found["version"] == shoes.store.version()
    assert client.get(f"{SHOES}/pick?n=5&seed=3").json()["data"] == pick_next(shoes, 5, 3)
    error(client.get(f"{SHOES}/pick?n=1001"), 422, "invalid_option")
    error(client.get(f"{SHOES}/outliers?top=3"), 422, "invalid_option")


def test_each_is_computed_once_for_a_version(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, calls = filled(client, "once", 9), list[int]()

    def counted(*given: Any) -> Any:
        calls.append(gallery.store.version())
        return find_outliers(*given)

    monkeypatch.setattr(curating, "find_outliers", counted)
    for _ in range(3):
        assert len(client.get("/v1/galleries/once/outliers").json()["data"]) == 9
    gallery.add(some_rows(1, 100, dimension=gallery.spec.dimension))
    for _ in range(3):
        assert len(client.get("/v1/galleries/once/outliers").json()["data"]) == 10
    assert len(calls) == 2
    assert client.delete("/v1/galleries/once").json() == {"rows": 10}
    filled(client, "once", 2)  # another gallery of that name, at a version that the first one had
    assert len(client.get("/v1/galleries/once/outliers").json()["data"]) == 2
    assert len(calls) == 3


def test_counts_and_orders_do_not_wait_for_a_long_computation(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(client, "long", 9)
    begun, go_on = threading.Event(), threading.Event()

    def long(*given: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return find_duplicates(*given)

    monkeypatch.setattr(curating, "find_duplicates", long)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.get, "/v1/galleries/long/duplicates")
        try:
            assert begun.wait(60)
            for path in ("counts?by=label", "histogram", "images?sort=uncertainty&order=desc"):
                answer = client.get(f"/v1/galleries/long/{path}")
                assert answer.status_code == 200, answer.text
            assert not asked.done()
        finally:
            go_on.set()
        assert asked.result().status_code == 200


def test_a_map_at_once_and_a_better_one_by_a_job(client: TestClient) -> None:
    gallery, path = filled(client, "mapped", 40), "/v1/galleries/mapped/map"
    head, (x, y, labels, _), names = read(client.get(path).content)
    assert (head["method"], head["rows"], head["stale"], head["version"]) == ("pca", 40, False, gallery.store.version())
    true = map_of(gallery, main_directions)
    order = [true.ids.index(name) for name in names]
    np.testing.assert_allclose(np.stack([x, y], axis=1), scaled(true.map.places)[order], atol=1e-6)
    known = {row["id"]: row["label"] for row in as_rows(gallery.rows(names, ["label"]))}
    values = head["columns"][0]["values"]
    assert [None if code < 0 else values[code] for code in labels] == [known[name] for name in names]
    error(client.get(f"{path}?method=tsne"), 404, "no_map")
    error(client.get(f"{path}?columns=meta"), 422, "invalid_option")
    error(client.get(f"{path}?columns=colour"), 400, "invalid_rows")

    job = ended(client, client.post(path))
    assert job["result"] == {"method": "tsne", "rows": 40, "mapped": 40, "version": head["version"]}
    head, blocks, names = read(client.get(path).content)
    assert (head["method"], head["stale"], head["missing"]) == ("tsne", False, 0)
    gallery.add(some_rows(2, 100, dimension=gallery.spec.dimension))
    gallery.delete({"id": names[0]})
    head, later, names_later = read(client.get(path).content)
    assert (head["method"], head["stale"], head["missing"], head["rows"]) == ("tsne", True, 2, 39)
    place = dict(zip(names, zip(*blocks[:2], strict=True), strict=True))
    span = np.ptp([place[name] for name in names_later], axis=0) / np.ptp(np.stack(later[:2], axis=1), axis=0)
    assert span[0] == pytest.approx(span[1], rel=1e-3)  # the same map
    assert read(client.get(f"{path}?method=pca").content)[0]["rows"] == 41


def test_a_map_and_a_list_of_nothing(client: TestClient) -> None:
    filled(client, "empty", 0)
    assert read(client.get("/v1/galleries/empty/map").content)[2] == []
    for what in ("outliers", "pick", "duplicates"):
        assert client.get(f"/v1/galleries/empty/{what}").json()["data"] == []


@pytest.mark.parametrize("pieces", [1, 1 << 20])
def test_an_export_is_the_gallery(
    client: TestClient, shoes: Gallery, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr("vssl_server.http.galleries.export.PIECE_BYTES", pieces)
    answer = client.get(f"{SHOES}/export?format=parquet")
    assert answer.headers["content-disposition"] == 'attachment; filename="shoes.parquet"'
    table = pq.read_table(io.BytesIO(answer.content)).sort_by("id")
    true = pa.Table.from_batches(shoes.store.scan(None, schema(shoes.spec).names)).sort_by("id")
    assert table.cast(true.schema).select(true.column_names) == true
    where = json.dumps({"label": "a"})
    lines = client.get(f"{SHOES}/export", params={"filter": where}).text.splitlines()
    assert len(lines) - 1 == shoes.store.count(shoes.parse({"label": "a"}))
    assert lines[0].startswith('"id","path"')
    assert client.head(f"{SHOES}/export").status_code == 200
    error(client.get(f"{SHOES}/export?filter=[1]"), 400, "invalid_filter")
    error(client.get(f"{SHOES}/export", params={"filter": '{"colour": 1}'}), 400, "invalid_filter")


def test_a_gallery_that_another_program_drops_is_gone(client: TestClient) -> None:
    filled(client, "dropped", 3)
    assert client.get("/v1/galleries/dropped").json()["rows"] == 3
    galleries_of(client).place().drop("dropped")
    galleries_of(client).forget("other")  # as a second later
    error(client.get("/v1/galleries/dropped"), 404, "unknown_gallery")
    assert stored(client, "shoes").name == "shoes"

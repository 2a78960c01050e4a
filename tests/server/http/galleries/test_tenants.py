"""A tenant over HTTP: whatever it asks, it sees and changes its own rows alone; the oracle is `matches`."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.gallery.samples import as_rows, some_rows
from tests.gallery.test_view import filters
from tests.server.conftest import png
from tests.server.http.galleries.conftest import filled, galleries_of, with_galleries
from tests.server.http.galleries.test_map_form import read
from tests.server.http.test_errors import error
from vssl.bundle.reading import Bundle
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.filters import matches, parse_filter

SHOES = "/v1/galleries/shoes"
FIELDS = {"tenant": "text", "year": "integer", "name": "text"}
ROWS = 24
OWN = {"tenant": "north", "year": {"$ne": 2005}}
NORTH = {"Authorization": "Bearer north"}
ids = st.integers(0, ROWS).map("image-{}".format)


def rows_of(dimension: int) -> pa.Table:
    numbers = range(ROWS)
    years = pa.array([None if row % 5 == 4 else 2000 + row % 6 for row in numbers], pa.int64())
    tenants = ["north" if row % 2 else "south" for row in numbers]
    return some_rows(ROWS, dimension=dimension, year=years, tenant=tenants, name=[f"n{row % 3}" for row in numbers])


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("tenants")
    (folder / "keys").write_text(f"all\nnorth scopes=search:*,write:* filter={json.dumps(OWN)}\n")
    with with_galleries(tiny_bundle, folder, "tenants", api_keys_file=folder / "keys") as client:
        client.headers["Authorization"] = "Bearer all"
        gallery = filled(client, "shoes", 0, fields=FIELDS)
        gallery.add(rows_of(gallery.spec.dimension))
        yield client


@pytest.fixture(scope="module")
def shoes(guarded: TestClient) -> Gallery:
    return Gallery(galleries_of(guarded).place().open("shoes"))


def known(gallery: Gallery) -> dict[str, dict[str, Any]]:
    columns = ["label", "year", "name", "tenant", "uncertainty"]
    return {row["id"]: row for row in as_rows(pa.Table.from_batches(gallery.store.scan(None, columns)))}


def inside(gallery: Gallery, where: Any = None) -> set[str]:
    both = [parse_filter(one, gallery.spec.fields) for one in (OWN, where)]
    return {name for name, row in known(gallery).items() if all(matches(one, row) for one in both)}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=filters, asked=ids)
def test_no_answer_holds_a_row_of_another(guarded: TestClient, shoes: Gallery, where: Any, asked: str) -> None:
    def got(path: str, **given: Any) -> Any:
        return guarded.get(f"{SHOES}/{path}", headers=NORTH, params=given)

    def posted(path: str, body: Any) -> Any:
        return guarded.post(f"{SHOES}/{path}", json=body, headers=NORTH)

    mine, text = inside(shoes, where), json.dumps(where)
    for sort in ("id", "uncertainty"):
        assert {row["id"] for row in got("images", filter=text, sort=sort).json()["data"]} == mine
    assert got("counts", filter=text).json()["rows"] == len(mine)
    assert sum(one["rows"] for one in got("counts", by="label", filter=text).json()["data"]) == len(mine)
    assert sum(got("histogram", filter=text).json()["rows"]) == len(mine)
    assert len(got("export", filter=text).text.splitlines()) == len(mine) + 1
    vector = np.eye(1, shoes.spec.dimension)[0].tolist()
    found = posted("search", {"vector": vector, "k": 100, "filter": where}).json()["data"][0]["neighbours"]
    assert {one["id"] for one in found} == mine
    found = posted("classify", {"vector": vector, "filter": where}).json()["data"][0]["neighbours"]
    assert {one["id"] for one in found} == {name for name in mine if known(shoes)[name]["label"] is not None}
    status = 200 if asked in inside(shoes) else 404
    assert got("row", id=asked).status_code == got(f"images/{asked}").status_code == status
    assert posted("search", {"id": asked}).is_success == (status == 200)
    assert posted("search", {"positive": [{"id": asked}]}).is_success == (status == 200)
    assert set(read(got("map").content)[2]) == inside(shoes)


def test_a_list_counts_the_rows_again_only_after_a_write(
    guarded: TestClient, shoes: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guarded.get(SHOES).is_success  # it is open now
    (opened,) = galleries_of(guarded).opened()
    store, counted, count = opened.store, list[object](), opened.store.count

    def counting(where: Any = None) -> int:
        if where is not None:
            counted.append(where)
        return count(where)

    def listed(headers: dict[str, str]) -> tuple[int, int]:
        (found,) = guarded.get("/v1/galleries", headers=headers).json()["data"]
        return found["rows"], found["labelled"]

    def expected(names: set[str]) -> tuple[int, int]:
        rows = known(shoes)
        return len(names), sum(rows[name]["label"] is not None for name in names)

    monkeypatch.setattr(store, "count", counting)
    monkeypatch.setattr(store, "scan", None)
    for labels in (["boot"] * ROWS, ["boot", *[None] * (ROWS - 1)]):
        shoes.add(rows_of(shoes.spec.dimension).drop_columns("label").append_column("label", pa.array(labels)))
        counted.clear()
        for _ in range(3):
            assert listed({}) == expected(set(known(shoes)))
            assert listed(NORTH) == expected(inside(shoes))
        assert len(counted) == 3  # the labelled ones, those that the key may see, and the labelled of these
    shoes.add(rows_of(shoes.spec.dimension))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(doomed=filters, asked=st.lists(ids, min_size=1, max_size=4, unique=True), year=st.sampled_from([2005, 2006]))
def test_no_write_reaches_another(
    guarded: TestClient, shoes: Gallery, doomed: Any, asked: list[str], year: int
) -> None:
    shoes.add(rows_of(shoes.spec.dimension))
    before = known(shoes)
    others = {name: row for name, row in before.items() if name not in inside(shoes)}

    def unharmed() -> bool:
        return others.items() <= known(shoes).items()

    answer = guarded.patch(f"{SHOES}/images", json={"ids": asked, "fields": {"year": year}}, headers=NORTH)
    if year == 2005 and inside(shoes) & set(asked):
        error(answer, 403, "outside_filter")
        assert known(shoes) == before
    else:
        assert answer.json()["rows"] == len(inside(shoes) & set(asked))
    assert unharmed()
    for body in ({"ids": asked}, {"filter": doomed}):
        counted = guarded.post(f"{SHOES}/delete", json=body | {"dry_run": True}, headers=NORTH).json()["rows"]
        assert guarded.post(f"{SHOES}/delete", json=body, headers=NORTH).json()["rows"] == counted
        assert unharmed()
    guarded.delete(f"{SHOES}/row", params={"id": asked[0]}, headers=NORTH)
    assert unharmed()


def test_images_of_a_tenant(guarded: TestClient, shoes: Gallery) -> None:
    shoes.add(rows_of(shoes.spec.dimension))
    before = known(shoes)

    def put(id: str, **fields: Any) -> Any:
        rows = json.dumps([{"id": id, "fields": fields}]).encode()
        files = [("images", ("a.png", png(7), "image/png")), ("rows", (None, rows, "application/json"))]
        return guarded.post(f"{SHOES}/images", files=files, headers=NORTH)

    error(put("new"), 403, "outside_filter")
    error(put("new", tenant="south"), 403, "outside_filter")
    error(put("image-0", tenant="north"), 403, "outside_filter")  # a row of another
    assert known(shoes) == before
    assert put("new", tenant="north").is_success
    assert put("image-1", tenant="north").is_success
    assert {name for name in known(shoes) if name not in before} == {"new"}
    shoes.delete({"id": "new"})

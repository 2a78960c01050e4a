"""What somebody sends who means no good, or whose program is wrong: an error that says so, and a gallery that still
answers."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.server.http.galleries.conftest import Json, filled
from tests.server.http.galleries.test_images import png, text
from vssl_gallery.store.rows import vector_column

HOSTILE = "/v1/galleries/hostile"


@pytest.fixture(scope="module")
def hostile(client: TestClient) -> TestClient:
    filled(client, "hostile", 4, fields={"year": "integer", "price": "number"}).close()
    return client


def stream(**columns: Any) -> bytes:
    table = pa.table(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def put_rows(client: TestClient, where: str, **columns: Any) -> Any:
    count, dimension = len(columns["id"]), client.get(where).json()["dimension"]
    body = stream(embedding=vector_column(np.eye(count, dimension, dtype=np.float32)), **columns)
    return client.post(f"{where}/rows", content=body, headers={"content-type": "application/vnd.apache.arrow.stream"})


@pytest.mark.parametrize(
    "fields", [{"uncertainty": 0.5}, {"thumbnail": "<svg onload=1>"}, {"meta": "no JSON"}, {"sha256": "x"}, {"no": 1}]
)
def test_a_change_of_fields_reaches_the_gallerys_own_alone(hostile: TestClient, fields: Json) -> None:
    first = hostile.get(f"{HOSTILE}/images").json()["data"][0]
    one = hostile.patch(f"{HOSTILE}/row", params={"id": first["id"]}, json={"fields": fields})
    several = hostile.patch(f"{HOSTILE}/images", json={"ids": [first["id"]], "fields": {"year": 1, **fields}})
    for answer in (one, several):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_rows")
    assert hostile.get(f"{HOSTILE}/images").json()["data"][0] == first


def test_meta_that_is_no_json_is_told_as_the_text_that_it_is(client: TestClient) -> None:
    where = "/v1/galleries/meta"
    client.put(where, json={})
    texts = ["no JSON", '{"a": NaN}', "", '{"a": 1}']
    hashes = ['"\r\nX: 1', "é", "x", "f" * 64]
    thumbnails = pa.array([b"1", b"2", b"3", b"4"], pa.binary())
    assert put_rows(client, where, id=list("abcd"), meta=texts, sha256=hashes, thumbnail=thumbnails).status_code == 200
    rows = client.get(f"{where}/images").json()["data"]
    assert [row["meta"] for row in rows] == [*texts[:3], {"a": 1}]
    answers = [client.get(f"{where}/thumbnail", params={"id": name}) for name in "abcd"]
    assert [answer.headers.get("etag") for answer in answers] == [None, None, None, f'"{"f" * 64}"']


def test_a_histogram_has_bins_for_any_numbers(client: TestClient) -> None:
    where = "/v1/galleries/numbers"
    client.put(where, json={"fields": {"near": "number", "far": "number"}})
    put_rows(client, where, id=["a", "b"], near=[1.0, 1.0 + 4e-16], far=[-1.7e308, 1.7e308])
    for column in ("near", "far"):
        answer = client.get(f"{where}/histogram", params={"column": column, "bins": 1000})
        assert sum(answer.json()["rows"]) == 2


def test_a_crop_needs_one_image_in_every_form_of_body(hostile: TestClient) -> None:
    where, kind = f"{HOSTILE}/search", {"content-type": "image/png"}
    json = hostile.post(where, json={"image": text(png(1)), "crop": [1, 2, 30, 30]}).json()
    raw = hostile.post(where, params={"crop": "[1, 2, 30, 30]"}, content=png(1), headers=kind).json()
    assert raw["data"] == json["data"]
    files = [("images", ("a", png(1))), ("images", ("b", png(2)))]
    assert hostile.post(where, params={"crop": "[1, 2, 30, 30]"}, files=files).status_code == 422
    for crop in ([0, 0, 1e300, 1], [5, 5, 5, 9], [-1, 0, 3, 3], [0, 0, 1], ["a"] * 4):
        assert hostile.post(where, json={"image": text(png(1)), "crop": crop}).status_code == 422
    wrong = hostile.post(where, json={"image": "!!!", "crop": [0, 0, 1, 1]})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid_image")
    unused = hostile.post(where, json={"image": text(png(1)), "uncertainty": 0.1})
    assert (unused.status_code, unused.json()["error"]["param"]) == (422, "uncertainty")


def test_a_crop_is_of_the_upright_picture(hostile: TestClient) -> None:
    lying = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(png(3))).save(lying, "PNG", exif=exif)
    upright, cut = Image.open(io.BytesIO(png(3))).transpose(Image.Transpose.ROTATE_270), io.BytesIO()
    upright.crop((2, 3, 42, 30)).save(cut, "PNG")
    where = f"{HOSTILE}/search"
    cropped = hostile.post(where, json={"image": text(lying.getvalue()), "crop": [2, 3, 42, 30]}).json()["data"]
    assert cropped == hostile.post(where, json={"image": text(cut.getvalue())}).json()["data"]


def test_too_many_ids_are_too_much(hostile: TestClient) -> None:
    ids = ["x"] * 10_001
    for answer in (
        hostile.post(f"{HOSTILE}/delete", json={"ids": ids}),
        hostile.patch(f"{HOSTILE}/images", json={"ids": ids, "label": "x"}),
        hostile.post(f"{HOSTILE}/delete", json={"ids": ["x"] * 10**6}),
    ):
        assert answer.status_code == 413, answer.text[:200]
    assert hostile.get(f"{HOSTILE}/counts").json()["rows"] == 4

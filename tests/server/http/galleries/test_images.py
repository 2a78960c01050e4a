"""Images into a gallery and out of it again: added, listed, searched, labelled, changed and deleted, over HTTP."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.server.conftest import serving
from vssl.bundle.reading import Bundle
from vssl_gallery.store.rows import vector_column

Json = dict[str, Any]
FRONT = "/v1/galleries/shoes"


def png(seed: int, side: int = 40) -> bytes:
    """A picture of its own."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side + 8), Image.Resampling.BILINEAR).save(file, "PNG")
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def client(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = str(tmp_path_factory.mktemp("images") / "galleries")
    with serving(tiny_bundle, name="gallery-images", galleries=folder, allowed_hosts="testserver") as served:
        yield served.client


@pytest.fixture(scope="module")
def shoes(client: TestClient) -> TestClient:
    """A gallery of twelve pictures: labels, years, and a place with slashes in their names."""
    done = client.put(FRONT, json={"fields": {"year": "integer", "seen": "boolean"}})
    assert done.status_code == 201, done.text
    items = [
        {
            "data": text(png(number)),
            "name": f"a/b/{number}.png",
            "label": "boot" if number % 2 else "sandal",
            "fields": {"year": 2000 + number, "seen": number > 5},
            "meta": {"by": ["somebody", number]},
        }
        for number in range(12)
    ]
    for start in (0, 6):
        answer = client.post(f"{FRONT}/images", json={"images": items[start : start + 6]})
        assert answer.status_code == 200, answer.text
        assert [one["id"] for one in answer.json()["data"]] == [item["name"] for item in items[start : start + 6]]
    return client


def test_what_was_added_is_what_v1_embed_says_and_is_there_at_once(shoes: TestClient) -> None:
    answer = shoes.post("/v1/embed", json={"images": [text(png(3))]}).json()["data"][0]
    row = shoes.get(f"{FRONT}/images/a/b/3.png").json()
    same = ("uncertainty", "percentile", "familiarity", "flags")
    assert {key: row[key] for key in same} == {key: answer[key] for key in same}
    assert row["sha256"] == hashlib.sha256(png(3)).hexdigest()
    assert (row["width"], row["height"], row["size"], row["label"]) == (40, 48, len(png(3)), "boot")
    assert row["fields"] == {"year": 2003, "seen": False}
    assert row["meta"] == {"by": ["somebody", 3]}
    assert "thumbnail" not in row
    assert "embedding" not in row
    page = shoes.get(f"{FRONT}/images", params={"columns": "embedding", "filter": '{"year": 2003}'}).json()
    np.testing.assert_allclose(page["data"][0]["embedding"], answer["embedding"], atol=1e-6)


def test_three_forms_of_body_give_the_same_row(client: TestClient) -> None:
    client.put("/v1/galleries/forms", json={"fields": {"year": "integer"}})
    where, data = "/v1/galleries/forms/images", png(77)
    raw = client.post(where, params={"id": "raw", "label": "x"}, content=data, headers={"content-type": "image/png"})
    form = client.post(where, files={"images": ("form", data)}, data={"rows": json.dumps([{"label": "x"}])})
    several = client.post(where, json={"images": [{"data": text(data), "id": "json", "label": "x"}, text(data)]})
    for answer in (raw, form, several):
        assert answer.status_code == 200, answer.text
    rows = client.get("/v1/galleries/forms/images").json()["data"]
    assert [row["id"] for row in rows] == sorted(["raw", "form", "json", hashlib.sha256(data).hexdigest()])
    assert [row["label"] for row in rows if len(row["id"]) < 10] == ["x"] * 3
    assert len({row["uncertainty"] for row in rows}) == 1
    # Put again, a row takes the place of the one that has its id.
    client.post(where, params={"id": "raw", "label": "y"}, content=data, headers={"content-type": "image/png"})
    assert client.get("/v1/galleries/forms/counts").json()["rows"] == 4
    assert client.get("/v1/galleries/forms/row", params={"id": "raw"}).json()["label"] == "y"


def test_an_image_is_found_by_itself_and_k_rows_are_found_below_a_filter(shoes: TestClient) -> None:
    found = shoes.post(f"{FRONT}/search", json={"image": text(png(5)), "k": 3, "columns": ["label", "year"]}).json()
    best = found["data"][0]["neighbours"][0]
    assert (best["id"], best["label"], best["fields"]) == ("a/b/5.png", "boot", {"year": 2005})
    assert best["similarity"] == pytest.approx(1, abs=1e-4)
    assert found["data"][0]["query"]["uncertainty"] == shoes.get(f"{FRONT}/images/a/b/5.png").json()["uncertainty"]
    assert found["exact"] is True
    assert set(found["timing"]) == {"decode_ms", "queue_ms", "inference_ms", "store_ms"}
    below = shoes.post(f"{FRONT}/search", json={"image": text(png(5)), "k": 6, "filter": {"label": "sandal"}}).json()
    assert len(below["data"][0]["neighbours"]) == 6
    raw = shoes.post(
        f"{FRONT}/search",
        params={"k": 2, "filter": '{"year": {"$gte": 2006}}', "columns": "year"},
        content=png(5),
        headers={"content-type": "image/png"},
    ).json()
    assert all(row["fields"]["year"] >= 2006 for row in raw["data"][0]["neighbours"])


def test_vectors_rows_and_mixtures_are_queries_too(shoes: TestClient) -> None:
    rows = shoes.get(f"{FRONT}/images", params={"columns": "embedding"}).json()["data"]
    vectors = {row["id"]: np.array(row["embedding"]) for row in rows}
    a, b = vectors["a/b/1.png"], vectors["a/b/2.png"]

    def ids(body: Json) -> list[str]:
        answer = shoes.post(f"{FRONT}/search", json={"k": 12, **body})
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"][0]["neighbours"]]

    def true(query: Any) -> list[str]:
        return sorted(vectors, key=lambda name: -float(vectors[name] @ query))

    assert ids({"vector": list(3 * a)}) == true(a)
    assert ids({"id": "a/b/1.png"}) == true(a)
    assert ids({"id": "a/b/1.png", "exclude_self": True}) == true(a)[1:]
    mixed = {"positive": [{"id": "a/b/1.png"}, {"vector": list(b)}], "negative": [{"image": text(png(4))}]}
    assert ids(mixed) == true((a + b) / 2 - vectors["a/b/4.png"])
    several = shoes.post(f"{FRONT}/search", json={"ids": ["a/b/1.png", "a/b/2.png"], "k": 1}).json()["data"]
    assert [one["neighbours"][0]["id"] for one in several] == ["a/b/1.png", "a/b/2.png"]
    image = Image.open(io.BytesIO(png(6))).crop((3, 4, 30, 40))
    file = io.BytesIO()
    image.save(file, "PNG")
    whole = shoes.post(f"{FRONT}/search", json={"image": text(file.getvalue())}).json()
    cut = shoes.post(f"{FRONT}/search", json={"image": text(png(6)), "crop": [3, 4, 30, 40]}).json()
    assert cut["data"][0]["query"]["uncertainty"] == pytest.approx(whole["data"][0]["query"]["uncertainty"], abs=1e-5)


def test_a_gallery_without_a_calibration_abstains_and_says_why(shoes: TestClient) -> None:
    answer = shoes.post(f"{FRONT}/classify", json={"image": text(png(3))}).json()
    one = answer["data"][0]
    assert (answer["calibration"], one["label"], one["action"]) == ("uncalibrated", "boot", "abstain")
    assert (one["reason"], one["p_correct"], one["interval"]) == ("uncalibrated", None, None)
    assert one["neighbours"][0]["id"] == "a/b/3.png"
    assert shoes.post(f"{FRONT}/classify", json={"id": "a/b/3.png", "risk": 0.3}).status_code in (200, 422)


def test_pages_hold_every_row_once_in_every_order(shoes: TestClient) -> None:
    for sort, order in (("id", "asc"), ("id", "desc"), ("uncertainty", "asc"), ("uncertainty", "desc")):
        seen: list[Json] = []
        after = None
        while True:
            params: Json = {"limit": 5, "sort": sort, "order": order} | ({"after": after} if after else {})
            page = shoes.get(f"{FRONT}/images", params=params).json()
            seen += page["data"]
            after = page["next"]
            if after is None:
                break
        values = [row[sort] for row in seen]
        assert values == sorted(values, reverse=order == "desc")
        assert len({row["id"] for row in seen}) == 12
        behind = shoes.get(f"{FRONT}/images", params={"limit": 3, "sort": sort, "order": order, "offset": 7}).json()
        assert [row["id"] for row in behind["data"]] == [row["id"] for row in seen[7:10]]
        assert behind["next"] is not None
    assert shoes.get(f"{FRONT}/images", params={"offset": 12}).json()["data"] == []
    both = shoes.get(f"{FRONT}/images", params={"offset": 1, "after": "a"})
    assert (both.status_code, both.json()["error"]["param"]) == (422, "offset")
    wrong = shoes.get(f"{FRONT}/images", params={"sort": "uncertainty", "after": "nothing"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "after")


def test_counts_and_histogram_agree_with_the_rows(shoes: TestClient) -> None:
    counts = shoes.get(f"{FRONT}/counts", params={"by": "label"}).json()["data"]
    assert sorted((one["value"], one["rows"]) for one in counts) == [("boot", 6), ("sandal", 6)]
    assert shoes.get(f"{FRONT}/counts", params={"filter": '{"seen": true}'}).json()["rows"] == 6
    found = shoes.get(f"{FRONT}/histogram", params={"bins": 5}).json()
    values = [row["uncertainty"] for row in shoes.get(f"{FRONT}/images").json()["data"]]
    rows, edges = np.histogram(values, 5)
    assert found["rows"] == rows.tolist()
    np.testing.assert_allclose(found["edges"], edges, rtol=1e-5)
    assert shoes.get(f"{FRONT}/histogram", params={"column": "label"}).status_code == 422


def test_labels_fields_and_rows_change_and_go(client: TestClient) -> None:
    where = "/v1/galleries/changing"
    client.put(where, json={"fields": {"year": "integer"}})
    client.post(f"{where}/images", json={"images": [{"data": text(png(n)), "id": f"{n}"} for n in range(5)]})
    assert client.patch(f"{where}/images", json={"ids": ["0", "1", "9"], "label": "shoe"}).json()["rows"] == 2
    assert client.patch(f"{where}/row", params={"id": "0"}, json={"fields": {"year": 7}}).json()["label"] == "shoe"
    assert client.patch(f"{where}/images/0", json={"label": None, "meta": {"a": 1}}).json()["label"] is None
    row = client.get(f"{where}/images/0").json()
    assert (row["meta"], row["fields"]) == ({"a": 1}, {"year": 7})
    dry = client.post(f"{where}/delete", json={"filter": {"label": "shoe"}, "dry_run": True}).json()
    assert (dry["rows"], client.get(f"{where}/counts").json()["rows"]) == (1, 5)
    assert client.post(f"{where}/delete", json={"ids": ["1", "2"]}).json()["rows"] == 2
    assert client.delete(f"{where}/images/3").json()["rows"] == 1
    assert client.delete(f"{where}/images/3").status_code == 404
    assert [row["id"] for row in client.get(f"{where}/images").json()["data"]] == ["0", "4"]
    unclear: list[Json] = [{}, {"ids": ["0"], "filter": {}}, {"filter": {}}]
    for body in unclear:
        assert client.post(f"{where}/delete", json=body).status_code in (400, 422)


def test_thumbnails_are_drawn_anew_and_known_by_their_tag(shoes: TestClient) -> None:
    answer = shoes.get(f"{FRONT}/images/a/b/1.png/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (40, 48)
    again = shoes.get(f"{FRONT}/thumbnail?id=a/b/1.png", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    shoes.put("/v1/galleries/plain", json={"keep_thumbnails": False})
    shoes.post("/v1/galleries/plain/images", json={"images": [{"data": text(png(1)), "id": "1"}]})
    none = shoes.get("/v1/galleries/plain/thumbnail?id=1")
    assert (none.status_code, none.json()["error"]["code"]) == (404, "no_thumbnail")


def test_rows_that_are_embedded_already_come_as_an_arrow_stream(client: TestClient) -> None:
    where = "/v1/galleries/arrow"
    dimension = client.put(where, json={}).json()["dimension"]
    vectors = np.eye(3, dimension, dtype=np.float32)
    table = pa.table({"id": ["a", "b", "c"], "embedding": vector_column(vectors)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    done = client.post(f"{where}/rows", content=sink.getvalue(), headers=headers)
    assert done.json()["rows"] == 3
    found = client.post(f"{where}/search", json={"vector": vectors[1].tolist(), "k": 1}).json()
    assert found["data"][0]["neighbours"][0]["id"] == "b"
    for body in (sink.getvalue()[:-30], b"", b"junk"):
        refused = client.post(f"{where}/rows", content=body, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_rows")


def test_bad_images_fail_the_request_or_get_their_error_and_the_others_are_kept(client: TestClient) -> None:
    where = "/v1/galleries/bad"
    client.put(where, json={"fields": {"year": "integer"}})
    items = [
        {"data": text(png(1)), "id": "good"},
        {"data": text(b"no image"), "id": "words"},
        {"data": text(png(2)), "id": "x" * 1025},
        {"data": text(png(3)), "id": "later", "fields": {"year": "soon"}},
        {"data": text(png(4)), "id": "odd", "fields": {"colour": 1}},
        {"data": text(png(5)), "id": "nul", "label": "a\0b"},
    ]
    assert client.post(f"{where}/images", json={"images": items}).status_code == 422
    assert client.post(f"{where}/images", json={"images": [items[0], items[3]]}).status_code == 400
    assert client.get(f"{where}/counts").json()["rows"] == 0
    kept = client.post(f"{where}/images", json={"images": items, "on_error": "return"}).json()["data"]
    assert [one.get("error", {}).get("type") for one in kept] == [None, "not_an_image", *["invalid_row"] * 4]
    assert client.get(f"{where}/counts").json()["rows"] == 1
    big = client.post(f"{where}/images", json={"images": [{"data": text(png(1)), "meta": {"a": "x" * 2**20}}]})
    assert big.status_code in (400, 413)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("search", {}, 422, "invalid_option"),
        ("search", {"id": "a/b/1.png", "vector": [1.0]}, 422, "invalid_option"),
        ("search", {"vector": [1.0, 2.0]}, 422, "invalid_option"),
        ("search", {"vector": ["1"] * 16}, 422, "invalid_option"),
        ("search", {"vectors": [[{}] * 400_000]}, 413, "body_too_large"),
        ("search", {"ids": ["x"] * 10_000}, 413, "too_many_images"),
        ("search", {"id": "nowhere"}, 400, "invalid_rows"),
        ("search", {"id": "a/b/1.png", "k": 0}, 422, "invalid_option"),
        ("search", {"id": "a/b/1.png", "k": 10**6}, 422, "invalid_option"),
        ("search", {"id": "a/b/1.png", "score": "best"}, 422, "invalid_option"),
        ("search", {"id": "a/b/1.png", "columns": ["thumbnail"]}, 422, "invalid_option"),
        ("search", {"id": "a/b/1.png", "filter": {"colour": 1}}, 400, "invalid_filter"),
        ("search", {"id": "a/b/1.png", "filter": {"year": {"$like": "2%"}}}, 400, "invalid_filter"),
        ("search", {"id": "a/b/1.png", "filter": {"label": "x' OR 1=1 --"}}, 200, None),
        ("search", {"id": "a/b/1.png", "min_version": 10**9}, 409, "version_unknown"),
        ("search", {"image": "bm8gaW1hZ2U=", "crop": [0, 0, 1, 1]}, 422, "invalid_image"),
        ("search", {"image": "bm8gaW1hZ2U="}, 422, "invalid_image"),
        ("search", {"id": "a/b/1.png", "crop": [0, 0, 1, 1]}, 422, "invalid_option"),
        ("search", {"id": "a/b/1.png", "more": 1}, 422, "invalid_option"),
        ("delete", {"ids": ["x"] * 10**5}, 413, "too_large"),
        ("images", {"images": []}, 422, "no_images"),
        ("images", {"images": [{"data": 1}]}, 422, "invalid_option"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    shoes: TestClient, path: str, body: Json, status: int, code: str | None
) -> None:
    answer = shoes.post(f"{FRONT}/{path}", json=body)
    assert answer.status_code == status, answer.text[:300]
    assert answer.json().get("error", {}).get("code") == code
    assert len(answer.content) < 3000 or code is None


def test_a_gallery_of_another_encoder_is_asked_by_vectors_alone(tiny_bundle: Bundle, shoes: TestClient) -> None:
    from vssl_gallery.gallery import Gallery
    from vssl_gallery.store.contract import Spec

    place = shoes.app.state.galleries.place()  # type: ignore[attr-defined]
    Gallery.create(place, "foreign", Spec("another-encoder", 4, model="other")).close()
    answer = shoes.post("/v1/galleries/foreign/search", json={"image": text(png(1))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "encoder_mismatch")
    added = shoes.post("/v1/galleries/foreign/images", json={"images": [text(png(1))]})
    assert (added.status_code, added.json()["error"]["code"]) == (409, "encoder_mismatch")
    assert shoes.post("/v1/galleries/foreign/search", json={"vector": [1, 0, 0, 0]}).status_code == 200

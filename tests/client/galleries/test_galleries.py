"""A gallery from Python, in a store here and at a real server: against numpy, blocking and in an event loop, and what
it refuses.
"""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.client.conftest import pictures
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_client import AsyncClient, Client, ImageRejected
from vssl_client.galleries import Added
from vssl_client.galleries.blocking import Gallery
from vssl_gallery.errors import EncoderMismatch, GalleryExists, InvalidFilter, InvalidRows, UnknownGallery

FILES = pictures(12)
IDS = [f"folder {number % 2}/é{number}.png" for number in range(12)]
LABELS = [None if number == 11 else "ab"[number % 2] for number in range(12)]


@dataclass(frozen=True)
class Place:
    """Galleries in a store here, or those of a server."""

    client: Client
    async_client: Callable[[], AsyncClient]
    at: str | None

    def gallery(self, name: str) -> Gallery:
        return self.client.gallery(name, at=self.at)


@pytest.fixture(scope="module", params=["here", "http"])
def place(
    request: pytest.FixtureRequest, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    if request.param == "here":
        folder = tmp_path_factory.mktemp("galleries")
        with Client(bundle=tiny_bundle.location) as client:
            yield Place(client, lambda: AsyncClient(bundle=tiny_bundle.location), str(folder))
        return
    url = request.getfixturevalue("server")
    with Client(url) as client:
        yield Place(client, lambda: AsyncClient(url), None)


@pytest.fixture(scope="module")
def client(place: Place) -> Client:
    return place.client


@pytest.fixture(scope="module")
def shoes(place: Place) -> Iterator[Gallery]:
    """Twelve images, which no test changes."""
    with place.gallery("shoes") as gallery:
        gallery.create({"year": "integer", "sold": "boolean"})
        fields: list[dict[str, object]] = [{"year": 2000 + number, "sold": number > 5} for number in range(12)]
        gallery.add(FILES, ids=IDS, labels=LABELS, fields=fields, meta=[{"n": number} for number in range(12)])
        yield gallery
        gallery.drop()


def by_cosine(client: Client, images: list[bytes]) -> tuple[list[list[str]], Any]:
    """Ids of all rows for each image, the most similar first, and the cosines, by numpy alone."""
    cosines = client.embed(images).embedding @ client.embed(FILES).embedding.T
    order = np.argsort(-cosines, axis=1, kind="stable")
    return [[IDS[row] for row in one] for one in order], np.take_along_axis(cosines, order, 1)


def test_what_is_found_is_what_numpy_finds(client: Client, shoes: Gallery) -> None:
    images = pictures(3, seed=5)
    ids, cosines = by_cosine(client, images)
    found = shoes.search(images=images, k=5, columns=["label", "year", "ood"])
    assert found.exact
    assert [[one.id for one in result.neighbours] for result in found.results] == [row[:5] for row in ids]
    similarities = [[one.similarity for one in result.neighbours] for result in found.results]
    np.testing.assert_allclose(similarities, cosines[:, :5], atol=1e-5)
    uncertainty = [result.query.uncertainty for result in found.results]
    np.testing.assert_allclose(np.array(uncertainty, float), client.embed(images).uncertainty, atol=1e-5)
    row = found.results[0].neighbours[0].row
    assert row is not None
    assert (row.label, row.fields["year"]) == (LABELS[IDS.index(row.id)], 2000 + IDS.index(row.id))
    one = shoes.search(image=images[0], k=5, score="csd").results[0].neighbours
    assert len(one) == 5
    assert one[0].score is not None


def test_rows_and_vectors_ask_too(client: Client, shoes: Gallery) -> None:
    ids, _ = by_cosine(client, FILES)
    first = shoes.search(id=IDS[3], k=4).results[0].neighbours
    assert [one.id for one in first] == ids[3][:4]
    others = shoes.search(ids=IDS[:2], k=3, exclude_self=True).results
    assert [[one.id for one in result.neighbours] for result in others] == [ids[0][1:4], ids[1][1:4]]
    embedding = client.embed(FILES[:2]).embedding
    assert shoes.search(vector=embedding[0], k=12).results[0].neighbours[0].id == IDS[0]
    both = shoes.search(vectors=embedding.tolist(), k=1, where={"year": {"$gte": 2006}}).results
    assert all(IDS.index(result.neighbours[0].id) >= 6 for result in both)


def test_rows_counts_and_info(place: Place, shoes: Gallery, tmp_path: Path) -> None:
    info = shoes.info()
    assert (info.name, info.rows, info.labelled, info.calibration) == ("shoes", 12, 11, "uncalibrated")
    assert info.fields == {"year": "integer", "sold": "boolean"}
    rows = shoes.rows([IDS[4], "nothing", IDS[1]])
    assert [row.id for row in rows] == [IDS[4], IDS[1]]
    with Image.open(io.BytesIO(FILES[4])) as image:
        assert (rows[0].width, rows[0].height, rows[0].size) == (*image.size, len(FILES[4]))
    assert rows[0].meta == {"n": 4}
    assert rows[0].embedding is None
    assert [row.id for row in shoes.images({"sold": True}, columns=["label"])] == sorted(IDS[6:])
    assert shoes.counts("label") == {"a": 6, "b": 5, None: 1}
    assert shoes.count({"label": "a"}) == 6
    assert "shoes" in shoes.names().galleries
    assert shoes.address == (place.at or place.client.urls[0])
    assert shoes.export(tmp_path / "rows.parquet", {"label": "b"}) == 5
    assert set(pq.read_table(tmp_path / "rows.parquet")["label"].to_pylist()) == {"b"}
    assert shoes.delete(where={"label": "a"}, dry_run=True).rows == 6
    assert {one.id for one in shoes.outliers(3)} <= set(IDS)
    assert shoes.pick(4) == [IDS[11]]
    assert len(shoes.map("pca").rows) == 12
    assert {answer.reason for answer in shoes.classify(images=FILES[:2]).results} == {"uncalibrated"}


def test_a_gallery_changes(place: Place, tmp_path: Path) -> None:
    with place.gallery("own") as own:
        own.create(keep_thumbnails=False)
        file = tmp_path / "one.png"
        file.write_bytes(FILES[0])
        added = own.add([file, FILES[1], b"no image", Image.new("L", (9, 9))], on_error="return")
        assert added.images[0].id == str(file)
        assert [one.error is None for one in added.images] == [True, True, False, True]
        assert len(added.images[1].id) == 64
        assert own.info().rows == 3
        again = own.add([file], labels=["boot"])
        assert (again.version or 0) > (added.version or 0)
        assert (own.info().rows, own.rows([str(file)])[0].label) == (3, "boot")
        assert own.search(image=FILES[0], k=1, min_version=again.version).version >= (again.version or 0)
        assert own.change([str(file), "nothing"], label=None).rows == 1
        assert own.delete(ids=[str(file)]).rows == 1
        own.set_alias("current")
        with place.gallery("current") as current:
            assert (current.info().name, current.info().aliases) == ("own", ["current"])
        own.drop_alias("current")
        assert own.maintain()
        own.drop()
        with pytest.raises(UnknownGallery):
            own.info()


def test_a_snapshot_brings_a_gallery_back(place: Place, shoes: Gallery, tmp_path: Path) -> None:
    if place.at is None:
        pytest.skip("a server's snapshots need the scope admin")
    shoes.snapshot(tmp_path / "snapshot")
    with place.gallery("again") as again:
        assert again.restore(tmp_path / "snapshot") == 12
        again.drop()


def test_the_same_in_an_event_loop(place: Place, shoes: Gallery) -> None:
    async def told() -> tuple[Any, ...]:
        async with place.async_client() as client, client.gallery("shoes", at=place.at) as gallery:
            found = await gallery.search(images=FILES[:3], k=4, columns=["year"])
            rows = [row.id async for row in gallery.images()]
            return found, await gallery.info(), rows, await gallery.counts("label")

    async def added() -> Added:
        async with place.async_client() as client, client.gallery("looped", at=place.at) as gallery:
            await gallery.create()

            async def some() -> Any:
                for file in FILES * 12:
                    yield file

            done = await gallery.add(some(), ids=[str(number) for number in range(144)])
            assert (await gallery.info()).rows == 144
            await gallery.drop()
            return done

    found, info, rows, counts = asyncio.run(told())
    assert found == shoes.search(images=FILES[:3], k=4, columns=["year"])
    assert (info, rows, counts) == (shoes.info(), sorted(IDS), shoes.counts("label"))
    assert [one.id for one in asyncio.run(added()).images] == [str(number) for number in range(144)]


def test_what_is_refused(place: Place, shoes: Gallery, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exactly one"):
        shoes.search(image=FILES[0], id="x")
    with pytest.raises(UsageError, match="exactly one"):
        shoes.search()
    with pytest.raises(TypeError, match="kk"):
        shoes.search(image=FILES[0], kk=3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"\[D\]"):
        shoes.search(vector=[[1.0]])
    with pytest.raises(InvalidRows, match="no such row"):
        shoes.search(id="nothing")
    with pytest.raises(InvalidFilter):
        shoes.search(image=FILES[0], where={"colour": "red"})
    with pytest.raises(ImageRejected, match="image"):
        shoes.search(images=[FILES[0], b"no image"])
    with pytest.raises(ImageRejected, match="colour"):
        shoes.add([FILES[0]], fields=[{"colour": "red"}])
    with pytest.raises(ImageRejected, match="takes an integer"):
        shoes.add([FILES[0]], fields=[{"year": "red"}])
    with pytest.raises(UsageError, match="2 for 1 images"):
        shoes.add([FILES[0]], ids=["a", "b"])
    with pytest.raises(UsageError, match="none for image 1"):
        shoes.add(iter(FILES), ids=["a"])
    with pytest.raises(ImageRejected, match="not_an_image"):
        shoes.add([b"no image"])
    with pytest.raises(ImageRejected, match="unreadable"):
        shoes.add([tmp_path / "nowhere.png"])
    with pytest.raises(UsageError, match="ids or where"):
        shoes.delete()
    with pytest.raises(UsageError, match="empty filter"):
        shoes.delete(where={})
    with pytest.raises(GalleryExists):
        shoes.create()
    with pytest.raises(UnknownGallery) as refused:
        place.gallery("nothing").info()
    assert refused.value.code == "unknown_gallery"
    assert shoes.info().rows == 12


def test_meta_of_any_json_stays_as_it_is(place: Place) -> None:
    with place.gallery("meta") as gallery:
        gallery.create()
        meta: list[Any] = [[1, {"é": None}], "'; DROP TABLE", 3.5, {"deep": [[[]]]}]
        gallery.add(FILES[:4], meta=meta, ids=list("abcd"))
        assert [row.meta for row in gallery.images(columns=["meta"])] == json.loads(json.dumps(meta))
        long = gallery.add([FILES[0]], meta=["x" * 70_000], on_error="return")
        assert "meta" in str(long.images[0].error)
        gallery.drop()


def test_a_place_that_can_be_none(place: Place, shoes: Gallery, tmp_path: Path) -> None:
    if place.at is not None:
        with Client(bundle="builtin:tiny") as other, pytest.raises(EncoderMismatch):
            other.gallery("shoes", at=place.at).search(image=FILES[0])
    with Client(["http://127.0.0.1:1", "http://127.0.0.1:2"]) as two, pytest.raises(UsageError, match="one address"):
        two.gallery("shoes")
    with pytest.raises(UsageError, match="client of that address"):
        place.client.gallery("shoes", at="http://127.0.0.1:1")

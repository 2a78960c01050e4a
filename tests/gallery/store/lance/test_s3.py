"""Galleries in a bucket. The server is moto's, in memory: it enforces the conditional puts that writers need."""

import os

import lancedb
import pyarrow as pa
import pytest

from tests.gallery.samples import SPEC, some_rows, unit_vectors
from tests.gallery.store.test_writers import write_together
from vssl_gallery.errors import GalleryExists, NotAGallery, StoreUnavailable, UnknownGallery
from vssl_gallery.store.filters import ids
from vssl_gallery.store.opening import open_place


def test_a_gallery_in_a_bucket(s3_address: str) -> None:
    place = open_place(f"{s3_address}/small")
    assert place.galleries() == []
    with pytest.raises(UnknownGallery):
        place.open("shoes")
    store = place.create("shoes", SPEC)
    with pytest.raises(GalleryExists):
        place.create("shoes", SPEC)
    written = store.upsert(some_rows(50))
    store.upsert(some_rows(10, year=[7] * 10))
    assert store.delete(ids(["image-20"])).rows == 1
    store.write_record("calibration", "1")
    place.set_alias("boots", "shoes")
    other = open_place(f"{s3_address}/small").open("boots")
    other.reach(written.version)
    assert (other.count(), other.read_record("calibration"), other.spec) == (49, "1", SPEC)
    assert other.search(unit_vectors(2), 3).rows.num_rows == 6
    assert other.maintain().info.rows == 49
    place.drop("shoes")
    assert place.galleries() == []


def test_a_bucket_with_something_else_in_it(s3_address: str) -> None:
    options = {"allow_http": "true", "endpoint": os.environ["AWS_ENDPOINT_URL"]}
    lancedb.connect(f"{s3_address}/other", storage_options=options).create_table("shoes", pa.table({"a": [1]}))
    with pytest.raises(NotAGallery, match="holds other tables"):
        open_place(f"{s3_address}/other")


@pytest.mark.slow
def test_three_writers_in_a_bucket(s3_address: str) -> None:
    address = f"{s3_address}/writers"
    write_together(address, open_place(address).create("shoes", SPEC))


def test_a_bucket_that_is_away(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match=f"{s3_address}/away: "):
        open_place(f"{s3_address}/away")


def test_a_bucket_that_is_not_there(s3_address: str) -> None:
    with pytest.raises(StoreUnavailable):
        open_place("s3://no-such-bucket-here/x").create("shoes", SPEC)

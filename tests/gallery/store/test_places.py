"""Places: galleries and aliases by name."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.gallery.samples import SPEC, some_rows, unit_vectors
from vssl.errors import UsageError
from vssl.search.nearest import normalised
from vssl_gallery.errors import GalleryExists, InvalidName, NotAGallery, UnknownGallery
from vssl_gallery.exact import ExactSearch
from vssl_gallery.store import saved_spec
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.contract import Place, Spec, Store
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vectors

Create = Callable[..., Store]


@pytest.fixture
def alias(place: Place, name: str) -> Iterator[str]:
    yield f"{name}-alias"
    place.set_alias(f"{name}-alias", None)


def test_a_gallery_is_there_until_it_is_dropped(place: Place, name: str) -> None:
    place.check()
    with pytest.raises(UnknownGallery, match=name):
        place.open(name)
    created = place.create(name, SPEC)
    assert created.name == name
    created.upsert(some_rows(3))
    created.write_record("calibration", "1")
    assert name in place.galleries()
    with pytest.raises(GalleryExists, match=name):
        place.create(name, Spec("another", 3))
    assert place.open(name).count() == 3
    place.drop(name)
    assert name not in place.galleries()
    with pytest.raises(UnknownGallery):
        place.drop(name)
    fresh = place.create(name, Spec("another", 3))
    assert fresh.count() == 0
    assert fresh.read_record("calibration") is None
    place.drop(name)


def test_two_releases_and_their_formats(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer release goes on with an older one's gallery, and its own is refused by the older one, whole."""
    store = place.create(name, SPEC)
    with monkeypatch.context() as newer:
        newer.setattr(saved_spec, "FORMAT", saved_spec.FORMAT + 1)
        place.open(name).upsert(some_rows(3))
    assert store.count() == 3
    assert place.open(name).upsert(some_rows(4)).rows == 4
    place.drop(name)
    with monkeypatch.context() as newer:
        newer.setattr(saved_spec, "FORMAT", saved_spec.FORMAT + 1)
        place.create(name, SPEC).upsert(some_rows(3))
    with pytest.raises(NotAGallery, match=f"{name}: a newer vssl wrote it .format {saved_spec.FORMAT + 1}"):
        place.open(name)
    with monkeypatch.context() as newer:
        newer.setattr(saved_spec, "FORMAT", saved_spec.FORMAT + 1)
        assert place.open(name).count() == 3
        place.drop(name)


def test_a_gallery_that_is_dropped_while_it_is_open(place: Place, name: str) -> None:
    store = place.create(name, SPEC)
    store.upsert(some_rows(3))
    assert store.count() == 3
    place.drop(name)
    if place.address.startswith("s3://"):
        time.sleep(1.1)  # a bucket is asked for newer versions once a second
    for act in (
        store.version,
        store.count,
        store.info,
        store.keys,
        lambda: store.upsert(some_rows(1)),
        lambda: store.search(unit_vectors(1), 1),
        lambda: list(store.scan()),
    ):
        with pytest.raises(UnknownGallery, match="is gone"):
            act()
    fresh = place.create(name, Spec("another", 3))
    with pytest.raises(UnknownGallery):
        store.search(unit_vectors(1), 1)
    fresh.close()
    place.drop(name)


@pytest.mark.parametrize("rows", [1, 100, pytest.param(100_000, marks=pytest.mark.slow)])
def test_galleries_of_each_size(place: Place, address: str, create: Create, rows: int) -> None:
    if rows > 100 and address.startswith("qdrant"):
        pytest.skip("the local mode of Qdrant is Python, and compares with every row")
    store = create()
    for first in range(0, rows, 10_000):
        store.upsert(some_rows(min(rows, 10_000), first=first))
    assert store.maintain().info.rows == rows
    # An index finds less for queries that are unlike every row; those near rows are what it is measured for.
    near = vectors(some_rows(min(rows, 10_000))["embedding"])[:20]
    queries = normalised(near + 0.05 * unit_vectors(len(near), seed=3)).astype(np.float32)
    true = ExactSearch(store).search(queries, 10)
    found = store.search(queries, 10)
    pairs = [
        set(zip(answer.rows["query"].to_pylist(), answer.rows["id"].to_pylist(), strict=True))
        for answer in (true, found)
    ]
    assert len(pairs[0]) == len(pairs[1]) == len(near) * min(rows, 10)
    assert len(pairs[0] & pairs[1]) >= 0.99 * len(pairs[0])
    names = sorted(f"image-{number}" for number in range(rows))
    assert store.page(names[0], 10)["id"].to_pylist() == names[1:11]


def test_a_gallery_is_opened_with_what_it_was_created_with(address: str, create: Create, name: str) -> None:
    create()
    other = open_place(address)
    assert other.address
    opened = other.open(name)
    assert (opened.name, opened.spec, opened.info().spec) == (name, SPEC, SPEC)
    opened.close()
    other.close()


def test_an_alias_moves_in_one_step(place: Place, create: Create, name: str, alias: str) -> None:
    create()
    second = place.create(f"{name}-second", Spec("encoder-2", 8))
    place.set_alias(alias, name)
    assert place.aliases()[alias] == name
    assert place.open(alias).name == name
    place.set_alias(alias, second.name)
    assert place.open(alias).spec.encoder_id == "encoder-2"
    assert alias not in place.galleries()
    with pytest.raises(GalleryExists, match="alias"):
        place.create(alias, SPEC)
    with pytest.raises(GalleryExists, match="is a gallery"):
        place.set_alias(name, second.name)
    with pytest.raises(UnknownGallery):
        place.set_alias(alias, "no-such-gallery")
    with pytest.raises(UnknownGallery):
        place.drop(alias)
    place.drop(second.name)
    assert alias not in place.aliases()
    with pytest.raises(UnknownGallery):
        place.open(alias)


@pytest.mark.parametrize("bad", ["", "Shoes", "../shoes", "_records", "a" * 65, "a;b", "a'b", "a.b"])
def test_names_that_nothing_can_have(place: Place, bad: str) -> None:
    for act in (lambda: place.create(bad, SPEC), lambda: place.open(bad), lambda: place.drop(bad)):
        with pytest.raises(InvalidName):
            act()
    with pytest.raises(InvalidName):
        place.set_alias(bad, "shoes")


def test_fields_that_no_gallery_can_have(place: Place, name: str) -> None:
    bad: dict[str, FieldType] = {"label": "text"}
    with pytest.raises(InvalidName, match="label"):
        place.create(name, Spec("e", 4, bad))
    assert name not in place.galleries()


def test_addresses_that_no_driver_has() -> None:
    with pytest.raises(UsageError, match="redis://"):
        open_place("redis://localhost")

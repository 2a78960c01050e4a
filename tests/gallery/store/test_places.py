"""Places: galleries and aliases by name."""

from collections.abc import Callable, Iterator

import pytest

from tests.gallery.samples import SPEC, some_rows
from vssl.errors import UsageError
from vssl_gallery.errors import GalleryExists, InvalidName, UnknownGallery
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.contract import Place, Spec, Store
from vssl_gallery.store.opening import open_place

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

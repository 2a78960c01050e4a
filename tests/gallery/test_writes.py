"""Writes of one gallery from several threads: none undoes another."""

import threading
from collections.abc import Callable

import pyarrow as pa
import pytest

from tests.gallery.samples import SPEC, some_rows
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.opening import open_place


@pytest.mark.parametrize("deleted", [False, True])
def test_a_label_brings_no_row_back_that_was_replaced_or_deleted_meanwhile(
    lance_address: str, deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_place(lance_address)
    gallery = Gallery.create(place, f"writes-{deleted}".lower(), SPEC)
    gallery.add(some_rows(3))
    newer = some_rows(3, seed=5)
    other: Callable[[], object] = (lambda: gallery.delete({"id": "image-0"})) if deleted else lambda: gallery.add(newer)
    thread, read = threading.Thread(target=other), gallery.changed

    def between(*given: object) -> pa.Table:
        """What a change has read, when another thread begins to write."""
        rows = read(*given)  # type: ignore[arg-type]
        thread.start()
        thread.join(0.5)
        return rows

    monkeypatch.setattr(gallery, "changed", between)
    gallery.change(["image-0"], {"label": "boot"})
    thread.join()
    found = gallery.rows(["image-0"], ["embedding"])
    assert found["embedding"].to_pylist() == ([] if deleted else newer["embedding"].to_pylist()[:1])
    gallery.close()
    place.close()

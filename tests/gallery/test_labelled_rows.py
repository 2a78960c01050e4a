"""The fingerprint of labelled rows that is kept up to date is what a fresh one is; only what changed is read again."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from tests.gallery.samples import some_rows
from vssl_gallery.fingerprint import Fingerprint, LabelledRows
from vssl_gallery.gallery import LABELLED
from vssl_gallery.store.contract import Keys, Store
from vssl_gallery.store.filters import ids


def labelled(count: int, first: int = 0, label: str | None = "boot") -> pa.Table:
    return some_rows(count, first, label=pa.array([label] * count, pa.string()))


def fresh(store: Store) -> Fingerprint:
    batches = store.scan(LABELLED, ["label"])
    return Fingerprint.of(
        pair for part in batches for pair in zip(part["id"].to_pylist(), part["label"].to_pylist(), strict=True)
    )


def test_after_each_write_only_what_changed_is_read(
    create: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create()
    rows = LabelledRows(store, LABELLED)
    assert rows.fingerprint().rows == 0
    store.upsert(labelled(40))
    assert rows.fingerprint().to_text() == fresh(store).to_text()
    taken: list[int] = []
    take = store.take

    def counted(keys: Keys, columns: Sequence[str]) -> pa.Table:
        taken.append(len(keys.keys))
        return take(keys, columns)

    monkeypatch.setattr(store, "take", counted)
    writes: list[tuple[Callable[[], object], int]] = [
        (lambda: store.upsert(labelled(2, first=40)), 2),
        (lambda: store.upsert(labelled(3, label="shoe")), 3),
        (lambda: store.upsert(labelled(1, first=7, label=None)), 0),
        (lambda: store.delete(ids(["image-9", "image-10"])), 0),
    ]
    for write, changed in writes:
        taken.clear()
        write()
        found = rows.fingerprint()
        assert found.to_text() == fresh(store).to_text()
        assert (found.rows, sum(taken)) == (len(fresh(store).ids), changed)
        assert rows.fingerprint() is found
    store.maintain()
    assert rows.fingerprint().to_text() == fresh(store).to_text()

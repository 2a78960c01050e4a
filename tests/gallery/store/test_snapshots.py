"""Snapshots: every row comes back, through any driver, and a changed byte is noticed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gallery.samples import SPEC, some_rows
from vssl_client.parts.stored import read_embeddings
from vssl_gallery.errors import GalleryExists, NotAGallery, SnapshotDamaged
from vssl_gallery.store import snapshot
from vssl_gallery.store.contract import Place, Store
from vssl_gallery.store.part_rows import rows_of_part
from vssl_gallery.store.rows import schema
from vssl_gallery.store.snapshot import MANIFEST, restore, verified, write_snapshot

Create = Callable[..., Store]
ALL = [name for name in schema(SPEC).names if name not in ("embedding", "variance")]


def rows_of(store: Store) -> list[dict[str, object]]:
    return sorted((row for batch in store.scan(None, ALL) for row in batch.to_pylist()), key=lambda row: str(row["id"]))


def filled(create: Create) -> Store:
    store = create()
    flags = [None, True, False]
    store.upsert(
        some_rows(
            30,
            name=["'\"é"] * 30,
            ood=flags * 10,
            unfamiliar=[None, None, True] * 10,
            meta=['{"a": 1}'] * 30,
            thumbnail=[b"\xff\xd8"] * 30,
            seen=some_rows(30)["added_at"],
        )
    )
    store.write_record("calibration", '{"k": 20}')
    return store


def test_a_snapshot_reads_as_embeddings_and_comes_back(
    place: Place, create: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PART_ROWS", 10)
    monkeypatch.setattr(snapshot, "BATCH_ROWS", 7)
    store = filled(create)
    manifest = write_snapshot(store, tmp_path / "snapshot")
    assert (manifest.rows, manifest.version, manifest.gallery) == (30, store.version(), store.name)
    stored = read_embeddings(tmp_path / "snapshot")
    assert sorted(stored.paths) == sorted(f"image-{number}" for number in range(30))
    assert (stored.origin.model, stored.origin.id, stored.failures) == ("tiny", "bundle-1", [])
    name = f"{store.name}-restored"
    restored = restore(place, name, tmp_path / "snapshot")
    assert restored.spec == store.spec
    assert rows_of(restored) == rows_of(store)
    assert {key: text for key, text in restored.records().items() if key[0] != "_"} == {"calibration": '{"k": 20}'}
    with pytest.raises(GalleryExists, match="restore under another name"):
        restore(place, name, tmp_path / "snapshot")
    place.drop(name)


def test_an_empty_gallery_has_a_snapshot(place: Place, create: Create, tmp_path: Path) -> None:
    store = create()
    assert write_snapshot(store, tmp_path).rows == 0
    restored = restore(place, f"{store.name}-restored", tmp_path)
    assert (restored.count(), restored.spec) == (0, SPEC)
    place.drop(restored.name)


def test_a_restoration_that_was_killed_goes_on(
    place: Place, create: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "BATCH_ROWS", 7)
    store = filled(create)
    write_snapshot(store, tmp_path)
    name = f"{store.name}-restored"
    calls = iter(range(100))

    def killed(*args: object) -> object:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return rows_of_part(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshot, "rows_of_part", killed)
    with pytest.raises(KeyboardInterrupt):
        restore(place, name, tmp_path)
    assert place.open(name).count() == 14
    assert rows_of(restore(place, name, tmp_path)) == rows_of(store)
    place.drop(name)


@pytest.mark.parametrize("harm", ["byte", "manifest", "missing part", "no manifest", "newer", "no snapshot"])
def test_a_snapshot_that_is_not_as_it_was_written(place: Place, create: Create, tmp_path: Path, harm: str) -> None:
    store = filled(create)
    folder = tmp_path / "snapshot"
    write_snapshot(store, folder)
    part, manifest = folder / "part-000000.parquet", folder / MANIFEST
    expected: type[Exception] = SnapshotDamaged
    if harm == "byte":
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    elif harm == "manifest":
        manifest.write_text(manifest.read_text().replace('"k\\": 20', '"k\\": 21'))
    elif harm == "missing part":
        part.unlink()
    elif harm == "no manifest":
        manifest.unlink()
    elif harm == "newer":
        changed = verified(folder)
        changed.spec["format"] = 99
        changed.sha256 = changed.hashed()
        manifest.write_text(changed.model_dump_json())
        expected = NotAGallery
    else:
        folder = tmp_path / "elsewhere"
    name = f"{store.name}-restored"
    with pytest.raises(expected):
        restore(place, name, folder)
    assert name not in place.galleries()


def test_a_snapshot_wants_a_folder_of_its_own(create: Create, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(GalleryExists, match="is not empty"):
        write_snapshot(create(), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]


class Stop(Exception):
    pass


def test_a_restore_that_is_stopped_goes_on(
    place: Place, create: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "BATCH_ROWS", 7)
    store, told = filled(create), list[float]()
    write_snapshot(store, tmp_path / "snapshot", told.append)
    assert told[0] == 0
    told.clear()

    def stop(share: float) -> None:
        told.append(share)
        if share > 0.4:
            raise Stop

    name = f"{store.name}-stopped"
    with pytest.raises(Stop):
        restore(place, name, tmp_path / "snapshot", stop)
    assert told == [0, 7 / 30, 14 / 30]
    assert rows_of(restore(place, name, tmp_path / "snapshot")) == rows_of(store)
    place.drop(name)

"""A folder that holds embeddings already: of these images or of others, with failures, changes or other files."""

import hashlib
import json
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.conftest import assert_same, oracle, pictures
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError, VsslError
from vssl.sources.folder import Folder
from vssl.sources.opening import open_source
from vssl.sources.selections import Listed
from vssl.sources.source import Source
from vssl.uncertainty.calibrated import NUMBERS
from vssl_client import Client, embed_folder
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.folder import part_writer as parts
from vssl_client.folder.contract import Choice, Plan, Summary
from vssl_client.folder.existing import same_source
from vssl_client.folder.job import embed_source, plan
from vssl_client.formats.columns import COLUMNS
from vssl_client.formats.contract import FormatName, open_format
from vssl_client.parts.finding import parts_of
from vssl_client.parts.stored import iter_embeddings, read_embeddings

FORMATS: list[FormatName] = ["parquet", "npz", "jsonl"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts of the images here."""
    monkeypatch.setattr(parts, "PART_ROWS", 16)
    monkeypatch.setattr("vssl_client.folder.job.MAX_IMAGES", 16)


def write(folder: Path, images: list[bytes]) -> Path:
    for number, data in enumerate(images):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:03d}.png").write_bytes(data)
    return folder


def embed(
    where: Path | Source, out: Path, embedder: LocalEmbedder, format: FormatName, **choice: bool | int
) -> Summary:
    source = open_source(str(where)) if isinstance(where, Path) else where
    try:
        return embed_source(source, out, embedder, format=format, choice=Choice(**choice))  # type: ignore[arg-type]
    finally:
        source.close()


def contents(out: Path) -> dict[str, str]:
    return {
        part.name: hashlib.sha256(part.read_bytes()).hexdigest() for part in out.iterdir() if part.name[:5] == "part-"
    }


def zipped(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder))
    return archive


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("place", [lambda folder: folder, zipped])
def test_another_folder_of_the_same_name_is_another_source(
    format: FormatName, place: Callable[[Path], Path], tmp_path: Path, local: LocalEmbedder
) -> None:
    ours = write(tmp_path / "x1" / "photos", pictures(40))
    theirs = write(tmp_path / "x2" / "photos", pictures(40, seed=1))
    embed(place(ours), tmp_path / "out", local, format)
    before = contents(tmp_path / "out")
    with pytest.raises(UsageError, match=r"other images than photos.* such as [ab]/\d+.png.*--changed.*--overwrite"):
        embed(place(theirs), tmp_path / "out", local, format)
    assert contents(tmp_path / "out") == before


def test_images_of_one_size_are_told_apart_by_their_content(tmp_path: Path, local: LocalEmbedder) -> None:
    images = [data.ljust(20_000, b"\0") for data in pictures(60)]
    embed(write(tmp_path / "x1" / "photos", images[:30]), tmp_path / "out", local, "parquet")
    with pytest.raises(UsageError, match=r"of 30 files looked at 30 differ"):
        embed(write(tmp_path / "x2" / "photos", images[30:]), tmp_path / "out", local, "parquet")


def test_lists_from_two_folders_are_two_sources(
    tmp_path: Path, local: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [write(tmp_path / name, pictures(12, seed)) for seed, name in enumerate(("x1", "x2"))]
    names = [bytes(path.relative_to(folders[0])) for path in sorted(folders[0].rglob("*.png"))]
    monkeypatch.chdir(folders[0])
    embed(Listed(names), tmp_path / "out", local, "parquet")
    monkeypatch.chdir(folders[1])
    with pytest.raises(UsageError, match="other images than list"):
        embed(Listed(names), tmp_path / "out", local, "parquet")


@pytest.mark.parametrize("format", FORMATS)
def test_a_few_changed_files_are_named_and_embedded_again_if_asked(
    format: FormatName, tmp_path: Path, local: LocalEmbedder, tiny_bundle: Bundle
) -> None:
    folder, out, images = tmp_path / "data", tmp_path / "out", pictures(42)
    embed(write(folder, images), out, local, format)
    before = contents(out)
    changed = {4: pictures(1, seed=5)[0], 41: images[41] + b"\0"}
    for number, data in changed.items():
        images[number] = data
    write(folder, images)
    (folder / "a" / "000.png").unlink()
    again = embed(folder, out, local, format)
    assert (again.new, again.changed, sorted(again.changes)) == (0, 2, ["a/004.png", "b/041.png"])
    assert contents(out) == before
    done = embed(folder, out, local, format, changed=True)
    assert (done.embedded, done.new, done.changed) == (42, 2, 0)
    now = contents(out)
    assert [name for name in sorted(before) if now[name] != before[name]] == [
        f"part-{number:06d}.{format}" for number in (0, 2)
    ]
    assert embed(folder, out, local, format, changed=True).new == 0
    stored = read_embeddings(out)
    order = [*range(0, 42, 2), *range(1, 42, 2)]
    assert stored.paths == [f"{'ab'[number % 2]}/{number:03d}.png" for number in order]
    assert_same(stored, oracle(tiny_bundle, [images[number] for number in order]))
    assert stored.hashes == [hashlib.sha256(images[number]).hexdigest() for number in order]
    assert stored.sizes.tolist() == [len(images[number]) for number in order]


def test_a_sample_is_seeded_and_of_the_size_it_says(
    tmp_path: Path, local: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(same_source, "SIZES", 10)
    folder, images = tmp_path / "data", pictures(40)
    embed(write(folder, images), tmp_path / "out", local, "parquet")
    asked: list[list[str]] = [[], []]
    for seen in asked:
        source = open_source(str(folder))
        size = source.size

        def looked(path: str, seen: list[str] = seen, size: Callable[[str], int] = size) -> int:
            seen.append(path)
            return size(path)

        monkeypatch.setattr(source, "size", looked)
        embed(source, tmp_path / "out", local, "parquet")
    assert len(asked[0]) == 10
    assert sorted(asked[0]) == sorted(asked[1])


@pytest.mark.parametrize("format", FORMATS)
def test_failures_are_tried_again_if_asked_and_nothing_else_is(
    format: FormatName, tmp_path: Path, calibrated_bundle: Bundle
) -> None:
    folder, out, images = write(tmp_path / "data", pictures(48)), tmp_path / "out", pictures(48)
    bad = [folder / "a" / "002.png", folder / "b" / "047.png", folder / "b" / "045.png"]
    for path in bad:
        path.unlink()
        path.symlink_to("gone.png")
    with LocalEmbedder(calibrated_bundle) as local:
        assert embed(folder, out, local, format).failed == 3
        before, untouched = contents(out), read_embeddings(out)
        assert embed(folder, out, local, format).new == 0
        assert contents(out) == before
        for path in bad[:2]:
            path.unlink()
            path.write_bytes(images[int(path.stem)])
        source = open_source(str(folder))
        assert plan(source, out, local, format=format, choice=Choice(retry_failed=True)) == Plan(48, 48, 0, 3)
        assert plan(source, out, local, format=format) == Plan(48, 48, 3, 0)
        assert plan(source, out, local, format=format, overwrite=True) == Plan(48, 0, 0, 48)
        assert embed(folder, out, local, format, retry_failed=True, limit=1).new == 1
        done = embed(folder, out, local, format, retry_failed=True)
        assert (done.embedded, done.failed, done.new) == (47, 1, 2)
        assert done.failures == [("b/045.png", "unreadable: No such file or directory")]
        now = contents(out)
        assert [name for name in sorted(before) if now[name] == before[name]] == [f"part-000001.{format}"]
        embed(folder, tmp_path / "fresh", local, format)
    stored, fresh = read_embeddings(out), read_embeddings(tmp_path / "fresh")
    assert stored.paths == fresh.paths
    assert (stored.failures, stored.labels, stored.hashes) == (fresh.failures, fresh.labels, fresh.hashes)
    assert_same(stored, oracle(calibrated_bundle, [(folder / path).read_bytes() for path in stored.paths]))
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(stored, name), getattr(fresh, name), rtol=1e-4)
    kept = [stored.paths.index(path) for path in untouched.paths]
    np.testing.assert_array_equal(stored.embedding[kept], untouched.embedding)


@pytest.mark.parametrize("format", FORMATS)
def test_labels_are_stored(format: FormatName, fashion_folder: Path, tmp_path: Path, local: LocalEmbedder) -> None:
    embed(fashion_folder, tmp_path / "out", local, format)
    stored = read_embeddings(tmp_path / "out", columns=["path", "label"])
    assert stored.labels == [path.split("/")[0] for path in stored.paths]
    names = [os.fsencode(path) for path in sorted(fashion_folder.rglob("*.png"))]
    embed(Listed(names), tmp_path / "listed", local, format)
    assert set(read_embeddings(tmp_path / "listed").labels) == {None}


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_columns_asked_for_are_there(format: FormatName, tmp_path: Path, local: LocalEmbedder) -> None:
    folder, out = write(tmp_path / "data", pictures(40)), tmp_path / "out"
    (folder / "a" / "bad.png").touch()
    embed(folder, out, local, format)
    whole = read_embeddings(out)
    assert repr(whole) == (
        f"<40 embeddings of data, 16 numbers each, by tiny version 1 (id {whole.origin.id[:12]}); 1 failed>"
    )
    pieces = list(iter_embeddings(str(out), columns=["embedding"]))
    assert len(pieces) == 3
    np.testing.assert_array_equal(np.concatenate([piece.embedding for piece in pieces]), whole.embedding)
    assert [failure for piece in pieces for failure in piece.failures] == whole.failures
    with pytest.raises(AttributeError, match="variance"):
        _ = pieces[0].variance
    with pytest.raises(UsageError, match="'vector' is not one of path"):
        iter_embeddings(out, columns=["vector"])


@pytest.mark.parametrize("format", FORMATS)
def test_without_variance(format: FormatName, tmp_path: Path, local: LocalEmbedder) -> None:
    folder, out, images = write(tmp_path / "data", pictures(24)), tmp_path / "out", pictures(24)
    embed(folder, out, local, format, variance=False, limit=10)
    with_it = embed(folder, tmp_path / "with", local, format)
    assert (len(read_embeddings(out)), with_it.embedded) == (10, 24)
    assert np.isnan(read_embeddings(out).variance).all()
    (folder / "a" / "000.png").write_bytes(images[0] + b"\0")
    assert embed(folder, out, local, format, variance=False, changed=True).embedded == 24
    stored = read_embeddings(out)
    np.testing.assert_allclose(stored.embedding, read_embeddings(tmp_path / "with").embedding, atol=1e-6)
    assert np.isnan(stored.variance).all()
    sizes = [sum(part.stat().st_size for part in parts_of(at, f".{format}")) for at in (out, tmp_path / "with")]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("format", FORMATS)
def test_a_copy_of_a_part_is_refused(format: FormatName, tmp_path: Path, local: LocalEmbedder) -> None:
    folder, out = write(tmp_path / "data", pictures(20)), tmp_path / "out"
    embed(folder, out, local, format)
    for name in (f"part-000000 copy.{format}", f"part-0000000.{format}", f"part-000000.{format}.bak"):
        shutil.copy(out / f"part-000000.{format}", out / name)
        with pytest.raises(UsageError, match=rf"holds something else \({name}\); move it away"):
            embed(folder, out, local, format)
        with pytest.raises(UsageError, match=f"{name} is not named as a part"):
            read_embeddings(out)
        (out / name).unlink()
    assert len(read_embeddings(out)) == 20
    shutil.copy(out / f"part-000000.{format}", out / f"part-000007.{format}")
    with pytest.raises(VsslError, match="16 images have more than one row"):
        embed(folder, out, local, format)


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
@settings(max_examples=40)
def test_a_malformed_part_is_read_or_named(
    format: FormatName, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, local: LocalEmbedder
) -> None:
    base = tmp_path_factory.getbasetemp() / f"malformed {format}"
    if not base.exists():
        embed(write(base / "data", pictures(5)), base / "out", local, format)
        (base / "damaged").mkdir()
    content = bytearray((base / "out" / f"part-000000.{format}").read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.binary(min_size=0, max_size=8))
    content[start : start + data.draw(st.sampled_from([len(damage), 0, 1, len(content)]))] = damage
    part = base / "damaged" / f"part-000000.{format}"
    part.write_bytes(content)
    reader = open_format(format)
    for read in (lambda: reader.read_origin(part), lambda: reader.read_part(part, COLUMNS)):
        told = complaint(read)
        assert told is None or f"{part.name}: not a part of embeddings that can be read" in told
        assert told is None or "move it out of the folder" in told


def complaint(read: Callable[[], object]) -> str | None:
    try:
        read()
    except VsslError as error:
        return str(error)
    return None


def test_a_part_that_lacks_something_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-000000.jsonl").write_text('{"path": "a", "embedding": [1], "variance": null}\n')
    np.savez(tmp_path / "part-000000.npz", path=np.array(["a"]), embedding=np.float32(1))
    for format in ("npz", "jsonl"):
        reader = open_format(format)
        part = tmp_path / f"part-000000{reader.SUFFIX}"
        for read in (lambda: reader.read_origin(part), lambda: reader.read_part(part, COLUMNS)):  # noqa: B023
            with pytest.raises(VsslError, match=rf"{part.name}: not a part"):
                read()


@pytest.mark.parametrize("change", ["touch", "delete"])
def test_json_lines_are_read_whole_where_what_lies_beside_is_not_theirs(
    change: str, tmp_path: Path, local: LocalEmbedder
) -> None:
    folder, out = write(tmp_path / "data", pictures(20)), tmp_path / "out"
    embed(folder, out, local, "jsonl")
    for part in parts_of(out, ".jsonl"):
        beside = part.with_name(f".{part.stem}.heads")
        kept = dict(json.loads(line) for line in beside.read_text().splitlines()[1:])
        assert kept["path"] == [json.loads(line)["path"] for line in part.read_text().splitlines()]
        assert beside.stat().st_size < part.stat().st_size / 1.5
        if change == "delete":
            beside.unlink()
        else:
            os.utime(part, ns=(0, 0))
            beside.write_text(beside.read_text().replace("a/000.png", "a/zzz.png"))
    assert embed(folder, out, local, "jsonl").new == 0


def test_a_folder_from_python(tmp_path: Path, client: Client) -> None:
    folder, out, told = write(tmp_path / "data", pictures(40)), tmp_path / "out", list[tuple[int, int]]()
    (folder / "a" / "bad.png").touch()
    done = embed_folder(str(folder), str(out), client, progress=lambda *seen: told.append(seen), limit=35)
    assert (done.new, told[0], told[-1][0]) == (35, (0, 0), 35)
    assert [seen[0] for seen in told] == sorted(seen[0] for seen in told)
    told.clear()
    embed_folder(folder, out, client, progress=lambda *seen: told.append(seen))
    assert (told[0][0], told[-1]) == (35, (41, 1))

    def enough(done: int, failed: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        embed_folder(folder, tmp_path / "other", client, progress=enough)
    assert len(read_embeddings(out)) == 40


class FarAway(Folder):
    """Each read takes a while; after the first hundred, until a crowd of them is under way."""

    CROWD = 20

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun = self.under_way = 0
        self.lock, self.crowd = threading.Lock(), threading.Event()

    def read(self, path: str, max_bytes: int) -> bytes:
        with self.lock:
            self.begun += 1
            self.under_way += 1
            wait = self.begun > 100
            if self.under_way >= self.CROWD:
                self.crowd.set()
        try:
            if not wait:
                time.sleep(0.005)
            else:
                assert self.crowd.wait(60)
            return super().read(path, max_bytes)
        finally:
            with self.lock:
                self.under_way -= 1


def test_more_reads_are_under_way_than_threads_decode(
    tmp_path: Path, local: LocalEmbedder, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vssl_client.folder.job.MAX_IMAGES", 64)
    images = pictures(400)
    source = FarAway(write(tmp_path / "data", images))
    embed(source, tmp_path / "out", local, "parquet")
    assert source.crowd.is_set()
    assert local.in_flight < source.CROWD
    order = [*range(0, 400, 2), *range(1, 400, 2)]
    assert_same(read_embeddings(tmp_path / "out"), oracle(tiny_bundle, [images[number] for number in order]))

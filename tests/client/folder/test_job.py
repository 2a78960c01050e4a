"""Folders into Parquet: what is in the rows, and how a job goes on after it ended in the middle."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.bad_files import REASONS, bad_files
from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import proxied, serving
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl.errors import UsageError, VsslError
from vssl.files import locked
from vssl.images.names import decode_name
from vssl.sources.opening import open_source
from vssl_client import Client, ConnectionFailed, ModelChanged
from vssl_client.embedding.contract import Embedder
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.folder import part_writer as parts
from vssl_client.folder.contract import Reporter, Summary
from vssl_client.folder.job import embed_source
from vssl_client.formats.parquet import read_columns
from vssl_client.parts.finding import parts_of
from vssl_client.parts.stored import read_embeddings


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part for every batch of 64 images."""
    monkeypatch.setattr(parts, "PART_ROWS", 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """300 images in folders within folders, with names of every kind."""
    names = [b"plain", b"two words", "ünïcödé-写真".encode(), b"caf\xe9", b"back\\slash", b"new\nline", b"percent%20"]
    for number, data in enumerate(pictures(300)):
        place = tmp_path / "data" / f"{number % 3}" / ("deep/er" if number % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        (place / os.fsdecode(names[number % 7] + b"-%d.png" % number)).write_bytes(data)
    return tmp_path / "data"


def embed(folder: Path | str, out: Path, embedder: Embedder, **options: object) -> Summary:
    source = open_source(str(folder))
    try:
        return embed_source(source, out, embedder, **options)  # type: ignore[arg-type]
    finally:
        source.close()


def contents(out: Path) -> dict[str, str]:
    return {part.name: hashlib.sha256(part.read_bytes()).hexdigest() for part in parts_of(out)}


@pytest.mark.parametrize("way", ["http", "in process"])
def test_every_row_is_what_the_engine_makes_of_its_file(
    way: str,
    folder: Path,
    tmp_path: Path,
    client: Client,
    local: LocalEmbedder,
    tiny_bundle: Bundle,
    small_parts: None,
) -> None:
    out = tmp_path / "not" / "there" / "yet"
    summary = embed(folder, out, client if way == "http" else local)
    assert summary == Summary(embedded=300, failed=0, new=300)
    stored = read_embeddings(out)
    assert stored.paths == list(open_source(str(folder)).paths())
    files = [(folder / decode_name(path)).read_bytes() for path in stored.paths]
    assert_same(stored, oracle(tiny_bundle, files))
    rows = [row for part in parts_of(out) for row in read_columns(part, ["sha256", "size"]).to_pylist()]
    assert rows == [{"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for data in files]
    assert [part.name for part in parts_of(out)] == [f"part-{number:06d}.parquet" for number in range(5)]
    assert (stored.origin.model, stored.origin.id) == ("tiny", tiny_bundle.manifest.id)
    assert stored.origin.encoder_id == tiny_bundle.encoder_id


def test_a_zip_archive_has_the_rows_of_its_folder(folder: Path, tmp_path: Path, local: LocalEmbedder) -> None:
    shutil.rmtree(folder / "1")
    for path in list(folder.rglob("*.png")):
        if not path.name.isascii() or "\\" in path.name:
            path.unlink()
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*.png"):
            file.write(path, f"inside/{path.relative_to(folder)}")
    embed(folder, tmp_path / "plain", local)
    embed(f"{archive}::inside", tmp_path / "zipped", local)
    plain, zipped = read_embeddings(tmp_path / "plain"), read_embeddings(tmp_path / "zipped")
    assert len(plain) > 50
    assert plain.paths == zipped.paths
    assert_same(zipped, plain)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["http", "in process"])
def test_bad_files_are_rows_with_an_error(
    way: str, folder: Path, tmp_path: Path, client: Client, local: LocalEmbedder
) -> None:
    for name, data in bad_files().items():
        (folder / name).write_bytes(data)
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    embedder, out = client if way == "http" else local, tmp_path / "out"
    summary = embed(folder, out, embedder)
    assert (summary.embedded, summary.failed) == (300, len(REASONS) + 1)
    rows = {row["path"]: row for part in parts_of(out) for row in read_columns(part).to_pylist()}
    for name, data in bad_files().items():
        assert rows[name]["error"].startswith(f"{REASONS[name]}: ")
        assert (rows[name]["embedding"], rows[name]["variance"], rows[name]["uncertainty"]) == (None, None, None)
        assert (rows[name]["sha256"], rows[name]["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert rows["dangling.png"]["error"] == "unreadable: No such file or directory"
    assert (rows["dangling.png"]["sha256"], rows["dangling.png"]["size"]) == (None, None)
    assert dict(summary.failures) == {path: row["error"] for path, row in rows.items() if row["error"]}
    again = embed(folder, out, embedder)
    assert again == Summary(summary.embedded, summary.failed, 0, summary.failures)


def test_a_file_over_the_limit_is_a_row_with_an_error(tmp_path: Path, local: LocalEmbedder) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "huge.jpg").open("wb") as file:
        file.truncate(33 * 2**20)
    summary = embed(tmp_path / "data", tmp_path / "out", local)
    assert [reason.split(":")[0] for _, reason in summary.failures] == ["too_many_bytes"]


def test_new_files_are_added_and_finished_parts_are_left_alone(
    folder: Path, tmp_path: Path, local: LocalEmbedder, small_parts: None
) -> None:
    out = tmp_path / "out"
    embed(folder, out, local)
    before = contents(out)
    assert embed(folder, out, local) == Summary(embedded=300)
    assert contents(out) == before
    for number, data in enumerate(pictures(70, seed=1)):
        (folder / "1" / f"later-{number}.png").write_bytes(data)
    assert embed(folder, out, local).new == 70
    after = contents(out)
    assert before.items() < after.items()
    assert sorted(read_embeddings(out).paths) == sorted(open_source(str(folder)).paths())


class Interrupting(Reporter):
    """Does something once, when so many images are through."""

    def __init__(self, images: int, action: Callable[[], None]) -> None:
        self.left, self.action = images, action

    def advance(self, images: int, failed: int) -> None:
        self.left -= images
        if self.left <= 0:
            self.left = 10**9
            self.action()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("images", [1, 64, 130, 299])
def test_an_interrupted_job_goes_on(
    images: int, folder: Path, tmp_path: Path, local: LocalEmbedder, small_parts: None
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        embed(folder, out, local, reporter=Interrupting(images, interrupt))
    before = contents(out)
    done = sum(len(read_columns(part, ["path"])) for part in parts_of(out))
    assert embed(folder, out, local).new == 300 - done
    assert before.items() <= contents(out).items()
    assert read_embeddings(out).paths == list(open_source(str(folder)).paths())


def test_a_server_that_goes_away_costs_only_what_is_not_finished(
    folder: Path, tmp_path: Path, server: str, small_parts: None, impatient: None
) -> None:
    out = tmp_path / "out"
    with proxied(server) as (proxy, url), Client(url, retries=2) as client:

        def go_away() -> None:
            proxy.always = "drop"

        with pytest.raises(ConnectionFailed):
            embed(folder, out, client, reporter=Interrupting(130, go_away))
        before = contents(out)
        assert 0 < len(before) < 5
        proxy.always = None
        assert embed(folder, out, client).embedded == 300
    assert before.items() <= contents(out).items()
    assert read_embeddings(out).paths == list(open_source(str(folder)).paths())


def other_bundle(tmp_path: Path, name: str) -> Path:
    """Another bundle: its id differs even where its name and version do not."""
    bundle = write_tiny_bundle(tmp_path / "copied", name)
    fields = {**bundle.manifest.model_dump(mode="json", exclude={"id", "files"}), "evaluation": {"knn": 0.5}}
    write_bundle(tmp_path / "other", fields, {name: bundle.read(name) for name in bundle.manifest.files})
    return tmp_path / "other"


@pytest.mark.parametrize("name", ["tiny", "other"])
def test_a_model_that_changes_in_the_middle_is_noticed(
    name: str, folder: Path, tmp_path: Path, server: str, small_parts: None
) -> None:
    out = tmp_path / "out"
    with serving(other_bundle(tmp_path, name)) as other, proxied(server) as (proxy, url), Client(url) as client:

        def change() -> None:
            proxy.upstream = other

        with pytest.raises(ModelChanged, match=r"changed (its|from) model"):
            embed(folder, out, client, reporter=Interrupting(130, change))
        assert 0 < len(parts_of(out)) < 5
        proxy.upstream = server
        assert embed(folder, out, client).embedded == 300
    assert {part.origin.model for part in [read_embeddings(out)]} == {"tiny"}


@pytest.mark.parametrize("name", ["tiny", "other"])
def test_another_model_is_refused_unless_told_to_overwrite(
    name: str, folder: Path, tmp_path: Path, local: LocalEmbedder, small_parts: None
) -> None:
    out = tmp_path / "out"
    embed(folder, out, local)
    before = contents(out)
    bundle = open_bundle(other_bundle(tmp_path, name))
    with LocalEmbedder(bundle) as other:
        with pytest.raises(UsageError, match=r"holds embeddings of model tiny.*--overwrite"):
            embed(folder, out, other)
        assert contents(out) == before
        assert embed(folder, out, other, overwrite=True).new == 300
    assert read_embeddings(out).origin.id == bundle.manifest.id
    assert read_embeddings(out).paths == list(open_source(str(folder)).paths())


def test_another_source_is_refused_its_paths_may_be_the_same(
    folder: Path, tmp_path: Path, local: LocalEmbedder
) -> None:
    embed(folder, tmp_path / "out", local)
    shutil.copytree(folder, tmp_path / "others")
    with pytest.raises(UsageError, match=r"holds embeddings of data, and this is others"):
        embed(tmp_path / "others", tmp_path / "out", local)


def test_a_moved_source_is_the_same_source(folder: Path, tmp_path: Path, local: LocalEmbedder) -> None:
    embed(folder, tmp_path / "out", local)
    (tmp_path / "elsewhere").mkdir()
    moved = folder.rename(tmp_path / "elsewhere" / "data")
    assert embed(moved, tmp_path / "out", local).new == 0


def test_an_empty_source_is_a_usage_error_and_leaves_nothing(tmp_path: Path, local: LocalEmbedder) -> None:
    (tmp_path / "data" / "deeper").mkdir(parents=True)
    (tmp_path / "data" / "notes.txt").write_text("no image")
    with pytest.raises(UsageError, match=r"data: no images"):
        embed(tmp_path / "data", tmp_path / "out", local)
    assert not (tmp_path / "out").exists()


def test_only_one_job_writes_to_a_folder(folder: Path, tmp_path: Path, local: LocalEmbedder) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out), pytest.raises(UsageError, match=r"another vssl process"):
        embed(folder, out, local)
    assert embed(folder, out, local).embedded == 300


def test_a_folder_that_holds_something_else_is_left_alone(folder: Path, tmp_path: Path, local: LocalEmbedder) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"something else .thesis.txt"):
            embed(folder, out, local, overwrite=overwrite)
    assert [entry.name for entry in out.iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match=r"is a file"):
        embed(folder, out / "thesis.txt", local)


def test_a_damaged_part_is_named_and_can_be_made_again(
    folder: Path, tmp_path: Path, local: LocalEmbedder, small_parts: None
) -> None:
    out = tmp_path / "out"
    embed(folder, out, local)
    part = parts_of(out)[2]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(VsslError, match=r"part-000002.parquet: not a part"):
        embed(folder, out, local)
    part.unlink()
    assert embed(folder, out, local).new == 64
    assert sorted(read_embeddings(out).paths) == sorted(open_source(str(folder)).paths())
    assert not np.isnan(read_embeddings(out).embedding).any()

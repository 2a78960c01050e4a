"""A bundle comes back as it was written, or is refused by name; writing one never costs the one before."""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny_model import SIZE, tiny_onnx, write_tiny_bundle
from vssl.bundle.manifest import manifest_id
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import replaceable, write_bundle
from vssl.errors import BundleError, UsageError
from vssl.images.decoding import Preprocessing

MANIFEST = "manifest.json"
NOTES = "docs/notes.txt"
FILES = {"model.onnx": tiny_onnx(), NOTES: b"a second file, in a folder"}


def described(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Fields of a valid manifest, for `write_bundle`."""
    fields = write_tiny_bundle(tmp_path / "described").manifest.model_dump(exclude={"id", "files"})
    return {**fields, **changes}


@pytest.fixture(params=["bundle", "bundle.zip"])
def bundle(tmp_path: Path, request: pytest.FixtureRequest) -> Bundle:
    """A bundle of two files, as a folder and as an archive."""
    location = tmp_path / request.param
    write_bundle(location, described(tmp_path), FILES)
    return open_bundle(location)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same, as a folder."""
    write_bundle(tmp_path / "bundle", described(tmp_path), FILES)
    return tmp_path / "bundle"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest and give it the id that belongs to it, as a careful forger would."""
    fields = json.loads((folder / MANIFEST).read_text())
    change(fields)
    (folder / MANIFEST).write_text(json.dumps({**fields, "id": manifest_id(fields)}))


def zipped(folder: Path, names: list[str]) -> Path:
    """The files of a folder as an archive with those member names; what is not in the folder is an empty file."""
    location = folder.parent / "packed.zip"
    with zipfile.ZipFile(location, "w") as archive:
        for name in names:
            path = folder / name
            archive.writestr(name, path.read_bytes() if path.is_file() else b"")
    return location


def test_a_bundle_comes_back(bundle: Bundle) -> None:
    assert {name: bundle.read(name) for name in bundle.manifest.files} == FILES
    assert bundle.manifest.name == "tiny"
    assert bundle.manifest.preprocessing == Preprocessing(SIZE)
    assert bundle.manifest == open_bundle(bundle.location).manifest
    assert bundle.manifest.id == manifest_id(bundle.manifest.model_dump(mode="json"))


def test_a_folder_packed_by_other_tools_is_the_same(folder: Path) -> None:
    location = folder.parent / "packed.zip"
    with zipfile.ZipFile(location, "w", zipfile.ZIP_DEFLATED) as archive:
        for found in folder.rglob("*"):
            archive.write(found, found.relative_to(folder))
        archive.writestr("__MACOSX/._model.onnx", b"what a Mac adds")

    assert open_bundle(location).manifest == open_bundle(folder).manifest


def test_what_others_may_read(bundle: Bundle, tmp_path: Path) -> None:
    """The server runs as another user than the one who exported."""
    location = bundle.location
    if location.suffix == ".zip":
        with zipfile.ZipFile(location) as archive:
            modes = [info.external_attr >> 16 for info in archive.infolist()]
    else:
        modes = [path.stat().st_mode for path in [location, *location.rglob("*")]]
    before = os.umask(0)
    os.umask(before)

    assert all(stat.S_IMODE(mode) & 0o444 == 0o444 & ~before for mode in modes)
    assert location.stat().st_mode & 0o444 == 0o444 & ~before


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_noticed(folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([MANIFEST, *FILES]))
    content = (folder / name).read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    whole = open_bundle(folder)
    try:
        (folder / name).write_bytes(changed)
        # One kind of white space for another in the manifest is not a change of what it says.
        if name == MANIFEST and re.split(rb"[ \t\r\n]+", changed) == re.split(rb"[ \t\r\n]+", content):
            assert open_bundle(folder).manifest == whole.manifest
        else:
            with pytest.raises(BundleError, match=name):
                open_bundle(folder)
        if name != MANIFEST:
            with pytest.raises(BundleError, match=name):
                whole.read(name)
    finally:
        (folder / name).write_bytes(content)


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_changed_byte_of_an_archive_is_noticed_or_means_nothing(folder: Path, data: st.DataObject) -> None:
    packed = zipped(folder, [MANIFEST, *FILES])
    whole, content = open_bundle(packed), bytearray(packed.read_bytes())
    place = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) - 300, len(content) - 1)))
    content[place] ^= data.draw(st.integers(1, 255))
    packed.write_bytes(content)
    try:
        found = open_bundle(packed)
    except BundleError as error:
        outcome = str(error)
    else:
        outcome = f"{packed}"
        assert found.manifest == whole.manifest
        assert {name: found.read(name) for name in FILES} == FILES
    assert str(packed) in outcome


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_file_cut_short_grown_or_gone(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for changed in (content[:-9], b"", content + b"more"):
        (folder / name).write_bytes(changed)
        with pytest.raises(BundleError, match=name):
            open_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        open_bundle(folder)


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_file_gone_from_an_archive(folder: Path, name: str) -> None:
    packed = zipped(folder, [other for other in (MANIFEST, *FILES) if other != name])
    with pytest.raises(BundleError, match=f"{name} is missing"):
        open_bundle(packed)


@pytest.mark.parametrize("name", ["extra.bin", "docs/extra.bin"])
def test_a_file_that_is_not_listed(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    for location in (folder, zipped(folder, [MANIFEST, *FILES, name])):
        with pytest.raises(BundleError, match=name):
            open_bundle(location)


def test_what_the_system_leaves_is_passed_over(folder: Path) -> None:
    (folder / ".DS_Store").touch()
    (folder / "empty").mkdir()

    assert open_bundle(folder).manifest.name == "tiny"


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\..\\evil"])
def test_an_archive_with_names_that_lead_out(folder: Path, name: str) -> None:
    with pytest.raises(BundleError, match="evil"):
        open_bundle(zipped(folder, [MANIFEST, *FILES, name]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [MANIFEST, "model.onnx"])
def test_an_archive_that_holds_a_name_twice(folder: Path, name: str) -> None:
    with pytest.raises(BundleError, match=f"{name} appears twice"):
        open_bundle(zipped(folder, [name, MANIFEST, *FILES]))


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a\\..\\x", "a/../../b", "a//b", "", ".", ".hidden", "a/", "a\n", "ä", "x" * 201]
)
def test_a_manifest_with_names_that_lead_out(folder: Path, tmp_path: Path, name: str) -> None:
    rewrite(folder, lambda fields: fields["files"].update({name: {"bytes": 0, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match=r"manifest\.json, field files"):
        open_bundle(folder)
    with pytest.raises(BundleError, match="field files"):
        write_bundle(tmp_path / "other", described(tmp_path), {**FILES, name: b""})
    assert not (tmp_path / "other").exists()


def test_links(folder: Path) -> None:
    """Inside the bundle they may be, as in the volumes that Kubernetes mounts; they may not lead out of it."""
    (folder / "model.onnx").rename(folder / ".data")
    (folder / "model.onnx").symlink_to(".data")
    assert open_bundle(folder).read("model.onnx") == FILES["model.onnx"]

    (folder / ".data").rename(folder.parent / "outside")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder.parent / "outside")
    with pytest.raises(BundleError, match=r"model\.onnx is a link that leads out"):
        open_bundle(folder)


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        open_bundle(folder)


def claims(folder: Path, data: bytes) -> None:
    """Let the manifest say that the model is `data`."""

    def change(fields: dict[str, Any]) -> None:
        fields["files"]["model.onnx"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    rewrite(folder, change)


def test_a_bomb_that_the_manifest_vouches_for_is_not_unpacked(folder: Path) -> None:
    data = bytes(50_000_000)
    claims(folder, data)
    (folder / "model.onnx").write_bytes(data)
    tracemalloc.start()
    open_bundle(folder)
    assert tracemalloc.get_traced_memory()[1] < len(data) / 2  # hashed in chunks
    tracemalloc.stop()
    packed = folder.parent / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (MANIFEST, NOTES, "model.onnx"):
            archive.write(folder / name, name)
    with pytest.raises(BundleError, match=r"model\.onnx unpacks to more than 20 times its size"):
        open_bundle(packed)


def test_a_bundle_is_bounded_as_a_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vssl.bundle.parsing.MAX_BUNDLE_BYTES", 10)
    with pytest.raises(BundleError, match="over the limit of 10"):
        open_bundle(folder)


def test_a_bomb_is_unpacked_no_further_than_the_manifest_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vssl.bundle.storage.MAX_RATIO", 10_000)
    packed = folder.parent / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(folder / MANIFEST, MANIFEST)
        archive.write(folder / NOTES, NOTES)
        with archive.open("model.onnx", "w") as member:
            for _ in range(200):
                member.write(bytes(1_000_000))
    unpacked = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal unpacked
        if event == "c_call" and arguments[0] == "decompress":
            unpacked += 1

    sys.setprofile(lambda frame, event, argument: count(event, (getattr(argument, "__name__", ""),)))
    try:
        with pytest.raises(BundleError, match=r"model\.onnx does not match"):
            open_bundle(packed)
    finally:
        sys.setprofile(None)
    assert 0 < unpacked < 20


@pytest.mark.parametrize("found", [0, 3, "1", None, 1.5, True])
def test_another_schema_says_what_to_do(folder: Path, found: object) -> None:
    rewrite(folder, lambda fields: fields.update(schema_version=found))
    with pytest.raises(BundleError, match=f"schema version {found!r}, this vssl reads 1 and 2: upgrade"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m["preprocessing"].update(mean=0.5), "preprocessing.mean"),
        (lambda m: m["preprocessing"].update(size="32"), "preprocessing.size"),
        (lambda m: m["preprocessing"].update(size=0), "preprocessing"),
        (lambda m: m["preprocessing"].update(crop=2), "preprocessing"),
        (lambda m: m["outputs"].update(uncertainty="vibes"), "outputs.uncertainty"),
        (lambda m: m["outputs"].update(dimension=0), "outputs.dimension"),
        (lambda m: m.update(name="no/slashes"), "name"),
        (lambda m: m.update(models={}), "models"),
        (lambda m: m["models"]["fp32"].update(path="other.onnx"), "other.onnx is not listed"),
        (lambda m: m["files"].update({MANIFEST: m["files"]["model.onnx"]}), "can't list itself"),
        (lambda m: m["files"]["model.onnx"].update(bytes=2**40), "files.model.onnx.bytes"),
        (lambda m: m.pop("provenance"), "provenance"),
    ],
)
def test_a_field_that_is_wrong_is_named(folder: Path, change: Callable[[dict[str, Any]], Any], field: str) -> None:
    rewrite(folder, change)
    with pytest.raises(BundleError, match=r"manifest\.json, ") as caught:
        open_bundle(folder)
    assert field in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe\x00",
        b'{"schema_version": 1, "name": "\xff"}',
        '{"schema_version": 1}'.encode("utf-16"),
        b'\xef\xbb\xbf{"schema_version": 1}',
        b'{"schema_version": 1, "id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"schema_version": 1, "a": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"schema_version": 1, "a": ' + b"9" * 5000 + b"}",
        b'{"schema_version": 1, "a": NaN}',
        b'{"schema_version": 1, "a": 1e999}',
        b'{"schema_version": 1, "a": "\\ud800"}',
        b'{"schema_version": 1' + b" " * 17_000_000 + b"}",
    ],
    ids=lambda content: content[:30].decode("latin-1"),
)
def test_a_manifest_that_is_none(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(folder)


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "1e999", '"0.5"', "true", "null", "[]"])
def test_figures_are_finite_numbers(folder: Path, figure: str) -> None:
    fields = json.loads((folder / MANIFEST).read_text())
    fields["evaluation"] = {"knn": "FIGURE"}
    fields["id"] = manifest_id({**fields, "evaluation": {"knn": json.loads(figure)}}) if figure[0] in '"tn[' else "0"
    (folder / MANIFEST).write_text(json.dumps(fields).replace('"FIGURE"', figure))
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(folder)


def test_numbers_and_names_of_every_kind_come_back(tmp_path: Path) -> None:
    """The id is made from the fields and checked against the file: both must say the same of every value."""
    awkward = {"tuple": (1, 2.5), "tiny": 1e-320, "long": 2**70, "text": 'ä"\\\n\u2028', "none": None, "endless": 1e999}
    fields = described(tmp_path, evaluation={"a/b": 1 / 3, "one": 1, "e": 1e-7, "zero": -0.0})
    fields["provenance"]["recipe"] = awkward
    written = write_bundle(tmp_path / "bundle", fields, FILES)

    found = open_bundle(tmp_path / "bundle").manifest
    assert found.id == written.id
    assert found.evaluation == {"a/b": 1 / 3, "one": 1.0, "e": 1e-7, "zero": 0.0}
    assert found.provenance.recipe == {**awkward, "tuple": [1, 2.5], "endless": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation": {"knn": float("nan")}},
        {"name": "no spaces"},
        {"preprocessing": {"size": 0}},
        {"models": {}},
        {"provenance": {"recipe": {}, "data": {"path": "\udcff"}, "seed": 0, "versions": {}, "created": ""}},
    ],
)
def test_what_cant_be_described_is_not_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    location = tmp_path / "bundle"
    with pytest.raises(BundleError, match=f"{location} can't be written: manifest.json"):
        write_bundle(location, described(tmp_path, **changes), FILES)
    assert not location.exists()


@pytest.mark.parametrize("location", ["bundle", "bundle.zip"])
def test_a_bundle_is_replaced(tmp_path: Path, location: str) -> None:
    write_bundle(tmp_path / location, described(tmp_path), FILES)
    write_bundle(tmp_path / location, described(tmp_path, version="2"), {"model.onnx": FILES["model.onnx"]})

    assert open_bundle(tmp_path / location).manifest.version == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == [location, "described"]


def test_a_damaged_bundle_is_replaced(folder: Path, tmp_path: Path) -> None:
    (folder / "model.onnx").write_bytes(b"damaged")
    write_bundle(folder, described(tmp_path), FILES)

    assert open_bundle(folder).read("model.onnx") == FILES["model.onnx"]


def keep(location: Path, content: bytes) -> None:
    location.parent.mkdir(parents=True, exist_ok=True)
    location.write_bytes(content)


@pytest.mark.parametrize(
    ("location", "files"),
    [
        ("place", {"place": b"a file"}),
        ("place", {"place/photo.jpg": b"", "place/other.txt": b""}),
        ("place", {"place/manifest.json": b'{"name": "a web page", "icons": []}', "place/index.html": b""}),
        ("place", {"place/manifest.json": b'{"files": 3}'}),
        ("place", {"place/manifest.json": b"\xff"}),
        ("place", {"place/manifest.json": b'{"files": {}}', "place/.git/config": b""}),
        ("place.zip", {"place.zip/inside": b""}),
        ("place.zip", {"place.zip": b"not an archive"}),
        ("place.zip", {"place.zip": b""}),
    ],
)
def test_anything_else_is_kept(tmp_path: Path, location: str, files: dict[str, bytes]) -> None:
    fields = described(tmp_path)
    for name, content in files.items():
        keep(tmp_path / name, content)
    for attempt in (replaceable, lambda place: write_bundle(place, fields, FILES)):
        with pytest.raises(UsageError, match=location):
            attempt(tmp_path / location)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_an_archive_of_images_is_kept(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat/1.jpg", b"a photograph")
    with pytest.raises(UsageError, match="not a bundle"):
        write_bundle(tmp_path / "photos.zip", described(tmp_path), FILES)
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        assert archive.read("cat/1.jpg") == b"a photograph"


def test_a_file_put_into_a_bundle_is_kept(folder: Path, tmp_path: Path) -> None:
    (folder / "my notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"my notes\.txt, which is not the bundle's and would be lost"):
        write_bundle(folder, described(tmp_path), FILES)
    assert (folder / "my notes.txt").read_text() == "mine"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle", described(tmp_path), FILES)

    assert open_bundle(tmp_path / "bundle").manifest.name == "tiny"


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bundle.zip").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.zip: manifest\.json can't be read from the zip archive"):
        open_bundle(tmp_path / "bundle.zip")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such bundle"):
        open_bundle(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a folder nor a file"):
        open_bundle(tmp_path / "pipe")


STEPS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})


def stopped_at_every_step(location: Path, fields: dict[str, Any], stop: Callable[[], Any]) -> Iterator[None]:
    """Write version 2 over version 1, in processes that `stop` at their 1st, 2nd, … step on the disk, until one ends.

    An audit hook is called before each step, and can't be removed again: hence the processes.
    """
    for step in range(1, 100):
        child = os.fork()
        if child == 0:
            left = step

            def count(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal left
                if event in STEPS and str(location.parent) in str(arguments[0]):
                    left -= 1
                    if left == 0:
                        stop()

            status = 1
            try:
                sys.addaudithook(count)
                write_bundle(location, fields, FILES)
                status = 0 if left > 0 else 1
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        yield
        if status == 0:
            return


def interrupt() -> None:
    raise KeyboardInterrupt


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_interrupted_at_any_step_leaves_a_whole_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    location = tmp_path / "here" / name
    old, new = described(tmp_path), described(tmp_path, version="2")
    write_bundle(location, old, FILES)
    versions = []
    for _ in stopped_at_every_step(location, new, interrupt):
        versions.append(open_bundle(location).manifest.version)
        if versions[-1] == "2":
            write_bundle(location, old, FILES)

    assert len(versions) > 3
    assert versions[0] == "1"
    assert versions[-1] == "2"


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_killed_at_any_step_leaves_a_whole_bundle(tmp_path: Path, name: str) -> None:
    """Between the two renames of a folder there is none in its place; both lie whole beside it then."""
    (tmp_path / "here").mkdir()
    location = tmp_path / "here" / name
    old, new = described(tmp_path), described(tmp_path, version="2")
    write_bundle(location, old, FILES)
    versions = []
    for _ in stopped_at_every_step(location, new, kill):
        if location.exists():
            versions.append(open_bundle(location).manifest.version)
        else:
            aside = location.parent.glob(".bundle.*/*")
            assert {path.name: open_bundle(path).manifest.version for path in aside} == {"old": "1", "new": "2"}
            versions.append("none")
        for left in location.parent.glob(".bundle.*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if versions[-1] != "1":
            write_bundle(location, old, FILES)

    assert versions.count("none") == (1 if name == "bundle" else 0)
    assert versions[0] == "1"
    assert versions[-1] == "2"

"""Folders and archives of images: the same paths for the same tree, whatever is in it."""

import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import FASHION
from vssl.errors import UsageError
from vssl.preprocessing import ImageError
from vssl.sources import decode_name, encode_name, labels_of, open_source

TREE = (
    "b/2.png",
    "b/10.PNG",
    "b.png",
    "b/deep/er/x.jpeg",
    "a-b/1.webp",
    "a/1.gif",
    "a.b/1.tif",
    "Z.bmp",
    "ä/ö.avif",
    "with space/x y.jpg",
    "back\\slash.png",
    "notes.txt",
    "no extension",
    ".hidden.png",
    ".git/1.png",
    "b/.thumbs/1.png",
    "__MACOSX/b/._2.png",
    "__MACOSX/3.png",
    "shaped.like/an.image.png/inside.txt",
)
SHOWN = [
    "Z.bmp",
    "a/1.gif",
    "a-b/1.webp",
    "a.b/1.tif",
    "b/10.PNG",
    "b/2.png",
    "b/deep/er/x.jpeg",
    "b.png",
    "back\\\\slash.png",
    "with space/x y.jpg",
    "ä/ö.avif",
]
LIMIT = 1000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder that holds the tree, each file its own name."""
    for name in TREE:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"


@pytest.fixture
def archive(tree: Path) -> Path:
    """The tree zipped, with entries for its folders and in another order."""
    path = tree.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for found in sorted(tree.rglob("*"), reverse=True):
            file.write(found, found.relative_to(tree))
    return path


def raw(name: str) -> bytes:
    return decode_name(name).encode()


def test_a_folder(tree: Path) -> None:
    source = open_source(str(tree))

    assert source.name == "tree"
    assert list(source.paths()) == list(source.paths()) == SHOWN
    assert [source.read(path, LIMIT) for path in SHOWN] == [raw(path) for path in SHOWN]


def test_its_archive_is_the_same(archive: Path) -> None:
    source = open_source(str(archive))

    assert source.name == "tree.zip"
    assert list(source.paths()) == list(source.paths()) == SHOWN
    assert [source.read(path, LIMIT) for path in SHOWN] == [raw(path) for path in SHOWN]
    source.close()


@pytest.mark.parametrize("inside", ["b", "b/", "/b"])
def test_a_folder_in_an_archive(tree: Path, archive: Path, inside: str) -> None:
    source = open_source(f"{archive}::{inside}")

    assert source.name == "tree.zip::b"
    assert list(source.paths()) == list(open_source(str(tree / "b")).paths()) == ["10.PNG", "2.png", "deep/er/x.jpeg"]
    assert source.read("deep/er/x.jpeg", LIMIT) == b"b/deep/er/x.jpeg"
    source.close()


def test_a_member_that_is_there_twice_is_named_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("1.png", b"old")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("1.png", b"new")
    source = open_source(str(tmp_path / "a.zip"))

    assert list(source.paths()) == ["1.png"]
    assert source.read("1.png", LIMIT) == b"new"
    source.close()


def test_a_folder_whose_name_looks_like_a_place_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a::b").mkdir()
    (tmp_path / "a::b" / "1.png").touch()

    assert list(open_source(str(tmp_path / "a::b")).paths()) == ["1.png"]


def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff\\n")
    folder.mkdir()
    for name in (b"\xe9.png", b"\\udce9.png", b"\\.png"):
        (folder / os.fsdecode(name)).write_bytes(name)
    source = open_source(str(folder))
    paths = list(source.paths())

    assert source.name == "\\udcff\\\\n"
    assert sorted(paths) == ["\\\\.png", "\\\\udce9.png", "\\udce9.png"]
    assert {source.read(path, LIMIT) for path in paths} == {b"\xe9.png", b"\\udce9.png", b"\\.png"}


any_name = st.binary(max_size=30).map(lambda name: name.decode("utf-8", "surrogateescape"))
awkward = st.text(alphabet="\\udce9\udce9u09f/", max_size=12)


@given(st.one_of(any_name, awkward))
def test_encoded_names_are_text_and_come_back(name: str) -> None:
    assert decode_name(encode_name(name).encode().decode()) == name


@given(st.one_of(any_name, awkward), st.one_of(any_name, awkward))
def test_encoded_names_differ_where_names_do(one: str, other: str) -> None:
    assert (encode_name(one) == encode_name(other)) == (one == other)


def test_links(tree: Path) -> None:
    """Links to folders are not followed, so a loop does no harm; one to nothing is named, and reading says why."""
    shutil.rmtree(tree)
    tree.mkdir()
    (tree / "real.png").write_bytes(b"real")
    (tree / "linked.png").symlink_to("real.png")
    (tree / "loop").symlink_to(".")
    (tree / "loop.png").symlink_to("loop.png")
    (tree / "folder.png").symlink_to(".")
    (tree / "nothing.png").symlink_to("missing.png")
    os.mkfifo(tree / "pipe.png")
    source = open_source(str(tree))

    assert list(source.paths()) == ["linked.png", "loop.png", "nothing.png", "real.png"]
    assert source.read("linked.png", LIMIT) == b"real"
    for path in ("loop.png", "nothing.png"):
        with pytest.raises(OSError, match=path):
            source.read(path, LIMIT)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_file_over_the_limit_is_not_read_whole(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "large.png").open("wb") as file:
        file.truncate(50_000_000)
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(tmp_path / "in" / "large.png", "large.png")
    source = open_source(str(tmp_path / ("in" if kind == "folder" else "in.zip")))

    with pytest.raises(ImageError, match="over the limit of 1,000 bytes") as caught:
        source.read("large.png", LIMIT)
    assert caught.value.type == "too_many_bytes"
    assert len(source.read("large.png", 50_000_000)) == 50_000_000
    source.close()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("missing", "no such file or folder"),
        ("missing.zip::a", "no such file or folder"),
        ("text.zip", "neither a folder nor a readable zip"),
        ("empty.zip", "neither a folder nor a readable zip"),
        ("tree::a", "only a zip archive"),
        ("tree.zip::c", "no folder 'c' inside; its top folders are .*a-b"),
        ("pipe", "no such file or folder"),
        ("nul\0byte", "no such file or folder"),
    ],
)
def test_what_is_no_source(tree: Path, archive: Path, location: str, message: str) -> None:
    (tree.parent / "text.zip").write_text("not an archive")
    (tree.parent / "empty.zip").touch()
    os.mkfifo(tree.parent / "pipe")

    with pytest.raises(UsageError, match=message):
        open_source(f"{tree.parent}/{location}")


def test_members_that_cant_be_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("locked", "broken", "strange", "fine"):
            file.writestr(f"{name}.png", name.encode() * 20)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for name, offset, change in (("locked", 8, 1), ("strange", 10, 77)):
        central = data.rindex(f"{name}.png".encode()) - 46  # the fixed part of an entry of the central directory
        data[central + offset] = change
        local = data.index(f"{name}.png".encode()) - 30
        data[local + offset - 2] = change
    data[data.index(b"broken.png") + 14] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(str(tmp_path / "a.zip"))

    assert list(source.paths()) == ["broken.png", "fine.png", "locked.png", "strange.png"]
    assert source.read("fine.png", LIMIT) == b"fine" * 20
    for path, reason in (("locked", "encrypted"), ("broken", "CRC|decompress"), ("strange", "compression")):
        with pytest.raises(OSError, match=f"can't be read from the archive: .*({reason})"):
            source.read(f"{path}.png", LIMIT)
    with pytest.raises(OSError, match="no item named"):
        source.read("other.png", LIMIT)
    source.close()


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_archive_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/1.png", b"one" * 9)
        file.writestr("a/ö.png", b"two")
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[int(place * len(content))] = value
    path.write_bytes(content)
    outcome = []
    try:
        source = open_source(str(path))
    except UsageError as error:
        outcome.append(str(error))
    else:
        for name in source.paths():
            try:
                outcome.append(repr(source.read(name, LIMIT)))
            except (OSError, ImageError) as error:
                outcome.append(str(error))
        source.close()
    assert all(outcome)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_many_threads_read_at_once(fashion_folder: Path, kind: str) -> None:
    source = open_source(str(fashion_folder) if kind == "folder" else f"{FASHION}::test")
    paths = list(source.paths())
    wanted = {path: source.read(path, 10_000) for path in paths}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: source.read(path, 10_000), paths * 5))

    assert found == [wanted[path] for path in paths] * 5
    source.close()


def test_labels_are_the_top_folders() -> None:
    assert labels_of(["b/1.png", "a/x/2.png", "b/3.png"]) == ([1, 0, 1], ["a", "b"])


@pytest.mark.parametrize("paths", [[], ["1.png", "2.png"], ["a/1.png", "a/b/2.png"], ["a/1.png", "b/2.png", "3.png"]])
def test_no_labels_without_two_folders_that_hold_everything(paths: list[str]) -> None:
    assert labels_of(paths) is None

"""Folders and archives of images: the same paths for the same tree, whatever is in it."""

import errno
import io
import itertools
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import FASHION
from vssl.errors import UsageError
from vssl.images.decoding import FORMATS, ImageError
from vssl.images.names import EXTENSIONS, HEIC, decode_name, encode_name, labels_of
from vssl.sources import patience
from vssl.sources.opening import open_source, splits_of
from vssl.sources.passed_over import PassedOver
from vssl.sources.selections import Listed

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


@pytest.fixture(autouse=True, scope="module")
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "PAUSES", (0,))
        yield


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


@pytest.fixture(params=["zip", "tar"])
def packed(request: pytest.FixtureRequest, archive: Path) -> Path:
    """The tree in each kind of archive; the tar is what `tar -cf tree.tar -C tree .` makes, in another order."""
    if request.param == "zip":
        return archive
    path = archive.with_suffix(".tar")
    names = sorted(found.relative_to(archive.parent / "tree") for found in (archive.parent / "tree").rglob("*"))
    arguments = [f"./{name}" for name in reversed(names)]
    subprocess.run(["tar", "--no-recursion", "-cf", path, "-C", archive.parent / "tree", *arguments], check=True)
    return path


def raw(name: str) -> bytes:
    return decode_name(name).encode()


def test_a_folder(tree: Path) -> None:
    source = open_source(str(tree))

    assert source.name == "tree"
    assert list(source.paths()) == list(source.paths()) == SHOWN
    assert [source.read(path, LIMIT) for path in SHOWN] == [raw(path) for path in SHOWN]


def test_its_archive_is_the_same(packed: Path) -> None:
    source = open_source(str(packed))

    assert source.name == packed.name
    assert list(source.paths()) == list(source.paths()) == SHOWN
    assert [source.read(path, LIMIT) for path in SHOWN] == [raw(path) for path in SHOWN]
    source.close()


@pytest.mark.parametrize("inside", ["b", "b/", "/b"])
def test_a_folder_in_an_archive(tree: Path, packed: Path, inside: str) -> None:
    source = open_source(f"{packed}::{inside}")

    assert source.name == f"{packed.name}::b"
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


def test_links(tree: Path, tmp_path: Path) -> None:
    """Links to folders are followed unless they lead back; one to nothing is named, and reading says why."""
    shutil.rmtree(tree)
    tree.mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("1.png", "deep/2.png"):
        (tmp_path / "elsewhere" / name).write_bytes(name.encode())
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to("..")
    (tree / "real.png").write_bytes(b"real")
    (tree / "linked.png").symlink_to("real.png")
    (tree / "class").symlink_to(tmp_path / "elsewhere")
    (tree / "parent").symlink_to(tmp_path)
    (tree / "loop").symlink_to(".")
    (tree / "loop.png").symlink_to("loop.png")
    (tree / "folder.png").symlink_to(".")
    (tree / "nothing.png").symlink_to("missing.png")
    (tree / "nothing").symlink_to("missing")
    (tree / "itself").symlink_to("itself")
    os.mkfifo(tree / "pipe.png")
    source = open_source(str(tree))

    images = ["class/1.png", "class/deep/2.png"]
    found = list(source.paths())
    assert found == [
        *images,
        "linked.png",
        "loop.png",
        "nothing.png",
        "parent/elsewhere/1.png",
        "parent/elsewhere/deep/2.png",
        "real.png",
    ]
    counts = {"links in a loop": 6, "links to nothing": 1, "pipes, sockets and devices": 1}
    assert source.passed_over.counts == counts
    assert len(found) + sum(counts.values()) == seen_by_find(tree)
    assert [source.read(path, LIMIT) for path in images] == [b"1.png", b"deep/2.png"]
    assert source.read("linked.png", LIMIT) == b"real"
    for path in ("loop.png", "nothing.png"):
        with pytest.raises(OSError, match=path):
            source.read(path, LIMIT)


def seen_by_find(folder: Path) -> int:
    """Files that `find -L` names, and links that it says lead nowhere; a hidden folder is one."""
    command = ["find", "-L", ".", "-name", ".?*", "-prune", "-print", "-o", "!", "-type", "d", "-print"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return len(done.stdout.splitlines()) + len(done.stderr.splitlines())


def test_what_is_found_and_what_is_passed_over_is_all_there_is(tree: Path) -> None:
    for name in ("a.cr3", "b/b.CR3", "b/c.jfif", "d.jpe", "e.pnm", "weird.a b", "log.0001"):
        (tree / name).write_bytes(name.encode())
    shutil.rmtree(tree / "__MACOSX")  # which `find` does not call hidden
    (tree / "loop").symlink_to("b/..")
    source = open_source(str(tree))
    found = list(source.paths())

    assert {"b/c.jfif", "d.jpe", "e.pnm"} < set(found)
    assert source.passed_over.as_text() == (
        "passed over: 2 hidden folders, 2 .cr3, 2 other files, 2 .txt, 1 hidden file, 1 link in a loop, "
        "1 file without an extension"
    )
    assert len(found) + source.passed_over.counts.total() == seen_by_find(tree)


def test_a_pattern_passes_over_what_it_asks_for_alone(tree: Path) -> None:
    source = open_source(f"{tree}/**/*.txt")
    assert list(source.paths()) == []
    assert source.passed_over.counts == {".txt": 2}


def test_extensions_are_those_of_what_is_decoded() -> None:
    Image.init()
    known = {end for end, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}
    assert known - EXTENSIONS == {".apng", ".avifs", ".pfm"}
    assert EXTENSIONS - known == HEIC


def test_a_link_to_itself_is_no_folder(tree: Path) -> None:
    shutil.rmtree(tree)
    tree.mkdir()
    (tree / "itself").symlink_to("itself")
    write_tar(tree / "0.tar", {"1.png": b"1"})
    assert list(open_source(str(tree)).paths()) == ["0.tar/1.png"]
    (tree / "train").mkdir()
    assert splits_of(str(tree)) == {"train": f"{tree}/train"}


def test_a_kind_a_file_is_no_kind() -> None:
    passed = PassedOver()
    for number in range(1000):
        passed.add(f".{number}")
    assert len(passed.counts) <= 101
    assert passed.counts.total() == 1000


@pytest.mark.parametrize("fault", [errno.EACCES, errno.ENOENT, errno.EIO])
def test_a_folder_that_cant_be_read_is_named_and_hides_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    """Vanished between its parent's listing and its own, refused, or on a damaged disk."""
    monkeypatch.setattr(patience, "PAUSES", (0, 0))
    scandir = os.scandir

    def failing(place: Path) -> object:
        if Path(place).name == "b":
            if fault != errno.ENOENT:
                raise OSError(fault, os.strerror(fault), str(place))
            place.rename(tree.parent / "away")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", failing)
    source = open_source(str(tree))
    assert list(source.paths()) == [path for path in SHOWN if not path.startswith("b/")]
    assert source.passed_over.unreadable == {"b": os.strerror(fault)}


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_an_error_that_passes_costs_a_pause(tree: Path, monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0, 0, 0))
    failures = dict.fromkeys(["scandir", "open"], 3)

    def flaky(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any, **options: Any) -> Any:
            if Path(arguments[0]).is_relative_to(tree / "b") and failures[name]:
                failures[name] -= 1
                raise OSError(fault, os.strerror(fault), str(arguments[0]))
            return work(*arguments, **options)

        return attempt

    monkeypatch.setattr(os, "scandir", flaky("scandir", os.scandir))
    source = open_source(str(tree))
    assert list(source.paths()) == SHOWN
    monkeypatch.setattr(Path, "open", flaky("open", Path.open))
    assert source.read("b/2.png", LIMIT) == b"b/2.png"
    assert failures == {"scandir": 0, "open": 0}
    failures["open"] = 4
    with pytest.raises(OSError, match=os.strerror(fault)):
        source.read("b/2.png", LIMIT)


class Dribble:
    """A file that gives three bytes at a time, as FUSE may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._data.read(min(3, size))


def test_short_reads_are_read_on() -> None:
    assert patience.exactly(Dribble(b"0123456789"), 10, 20) == b"0123456789"
    assert patience.exactly(Dribble(b"0123456789"), 5, 8) == b"01234567"
    with pytest.raises(OSError, match="ends too early, after 10 of 12 bytes"):
        patience.exactly(Dribble(b"0123456789"), 12, 20)


@pytest.mark.parametrize("kind", ["in", "in.zip", "in.tar"])
def test_a_file_over_the_limit_is_not_read_whole(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "large.png").open("wb") as file:
        file.truncate(50_000_000)
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(tmp_path / "in" / "large.png", "large.png")
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(tmp_path / "in" / "large.png", "large.png")
    source = open_source(str(tmp_path / kind))

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
        ("tree::a", "only an archive"),
        ("empty.tar", "no tar archive, or a damaged one"),
        ("text.tar", "no tar archive, or a damaged one"),
        ("tree.tar.gz", "compressed.*gunzip it first"),
        ("tree.zip::c", "no folder 'c' inside; its top folders are .*a-b"),
        ("pipe", "no such file or folder"),
        ("nul\0byte", "no such file or folder"),
    ],
)
def test_what_is_no_source(tree: Path, archive: Path, location: str, message: str) -> None:
    (tree.parent / "text.zip").write_text("not an archive")
    (tree.parent / "text.tar").write_text("not an archive")
    (tree.parent / "empty.zip").touch()
    (tree.parent / "empty.tar").touch()
    with tarfile.open(tree.parent / "tree.tar.gz", "w:gz") as tar:
        tar.add(tree)
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


@pytest.fixture(scope="module")
def fashion_tar(fashion_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tar") / "fashion.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(fashion_folder, ".")
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_many_threads_and_processes_read_at_once(fashion_folder: Path, fashion_tar: Path, kind: str) -> None:
    source = open_source({"folder": str(fashion_folder), "zip": f"{FASHION}::test", "tar": str(fashion_tar)}[kind])
    paths = list(source.paths())
    wanted = {path: source.read(path, 10_000) for path in paths}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: source.read(path, 10_000), paths * 5))
    assert found == [wanted[path] for path in paths] * 5

    def reads_right() -> None:
        for _ in range(200 // len(paths) + 1):
            if any(source.read(path, 10_000) != wanted[path] for path in paths):
                os._exit(1)

    workers = [get_context("fork").Process(target=reads_right) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    source.close()


def test_links_in_a_tar(tree: Path) -> None:
    """The same names as those of the folder (`test_links`), but for the links that lead to no file of the tar."""
    shutil.rmtree(tree)
    (tree / "a").mkdir(parents=True)
    (tree / "real.png").write_bytes(b"real")
    (tree / "a" / "linked.png").symlink_to("../real.png")
    (tree / "hard.png").hardlink_to(tree / "real.png")
    (tree / "nothing.png").symlink_to("missing.png")
    with tarfile.open(tree.parent / "links.tar", "w") as tar:
        tar.add(tree, ".")
    source = open_source(str(tree.parent / "links.tar"))

    assert list(source.paths()) == ["a/linked.png", "hard.png", "nothing.png", "real.png"]
    assert {source.read(path, LIMIT) for path in ("a/linked.png", "hard.png", "real.png")} == {b"real"}
    with pytest.raises(OSError, match="a link to nothing"):
        source.read("nothing.png", LIMIT)


def test_the_last_of_two_files_of_a_name_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for content in (b"old", b"new"):
            (tmp_path / "1.png").write_bytes(content)
            tar.add(tmp_path / "1.png", "1.png")
    source = open_source(str(tmp_path / "a.tar"))

    assert [(path, source.read(path, LIMIT)) for path in source.paths()] == [("1.png", b"new")]


@pytest.mark.parametrize("damage", ["header", "cut in a header", "cut in a file"])
def test_a_damaged_tar_loses_nothing_in_silence(fashion_tar: Path, tmp_path: Path, damage: str) -> None:
    """tarfile itself takes a damaged header for the end of the archive."""
    data = bytearray(fashion_tar.read_bytes())
    with tarfile.open(fashion_tar) as tar:
        member = next(member for member in tar.getmembers()[10:] if member.isfile())
    if damage == "header":
        data[member.offset] ^= 0xFF
    else:
        del data[member.offset + (200 if "header" in damage else 512 + member.size // 2) :]
    (tmp_path / "damaged.tar").write_bytes(data)

    with pytest.raises(UsageError, match="damaged"):
        open_source(str(tmp_path / "damaged.tar"))


def test_a_tar_that_shrinks_after_it_was_opened(fashion_tar: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    shutil.copy(fashion_tar, path)
    source = open_source(str(path))
    os.truncate(path, 2_000)

    with pytest.raises(OSError, match="ends too early"):
        source.read(list(source.paths())[-1], LIMIT)


def write_shards(folder: Path, images: Path, labels: str) -> None:
    """40 images over four shards: in class folders, or with WebDataset's `.cls` beside each, or without labels."""
    for index, image in enumerate(sorted(images.rglob("*.png"))):
        number, key = index % 4, f"{index:04}"
        with tarfile.open(folder / f"set-{number:02}.tar", "a") as tar:
            tar.add(image, f"{image.parent.name}/{key}.png" if labels == "folders" else f"{key}.small.png")
            if labels == "cls":
                text = tarfile.TarInfo(f"{key}.cls")
                text.size = 1
                tar.addfile(text, io.BytesIO(b"7" if image.parent.name == "bag" else b"4"))


@pytest.mark.parametrize(("labels", "classes"), [("folders", ["bag", "coat"]), ("cls", ["4", "7"]), ("none", None)])
def test_shards(fashion_folder: Path, tmp_path: Path, labels: str, classes: list[str] | None) -> None:
    write_shards(tmp_path, fashion_folder, labels)
    (tmp_path / "index.json").write_text("{}")
    source = open_source(str(tmp_path))
    paths = list(source.paths())

    assert list(open_source(f"{tmp_path}/set-{{00..03}}.tar").paths()) == paths
    assert len(set(paths)) == 40
    assert paths[0].startswith("set-00.tar/")
    contents = {source.read(path, 10_000) for path in paths}
    assert contents == {path.read_bytes() for path in fashion_folder.rglob("*.png")}
    found = source.labels(paths)
    assert (found is None) == (classes is None)
    if found is not None:
        assert found[1] == classes
        bags = {path.read_bytes() for path in (fashion_folder / "bag").iterdir()}
        assert [source.read(path, 10_000) in bags for path in paths] == [found[1][i] in ("bag", "7") for i in found[0]]


@pytest.mark.parametrize(("labels", "wanted"), [("folders", {"bag", "coat"}), ("cls", {"4", "7"}), ("none", {None})])
def test_one_shard_alone_has_the_labels_of_many(
    fashion_folder: Path, tmp_path: Path, labels: str, wanted: set[str | None]
) -> None:
    write_shards(tmp_path, fashion_folder, labels)
    many, one = open_source(str(tmp_path)), open_source(str(tmp_path / "set-01.tar"))

    found = {path.removeprefix("set-01.tar/"): many.label(path) for path in many.paths() if path.startswith("set-01")}
    assert {path: one.label(path) for path in one.paths()} == found
    assert set(found.values()) == wanted


def test_sizes_are_known_without_reading(fashion_folder: Path, tmp_path: Path) -> None:
    write_shards(tmp_path, fashion_folder, "folders")
    listed = Listed(map(os.fsencode, sorted(fashion_folder.rglob("*.png"))))
    sources = [open_source(str(place)) for place in (fashion_folder, FASHION, tmp_path, tmp_path / "set-01.tar")]
    for source in [*sources, listed]:
        for path in itertools.islice(source.paths(), 10):
            assert source.size(path) == len(source.read(path, LIMIT))
        with pytest.raises(OSError, match="nothing"):
            source.size("nothing/like.png")
        source.close()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_shards_of_one_name_in_numbered_folders(tmp_path: Path) -> None:
    for day in range(3):
        write_tar(tmp_path / f"day-{day}" / "images.tar", {f"{i}.png": f"{day} {i}".encode() for i in range(4)})
    source = open_source(f"{tmp_path}/day-{{0..2}}/images.tar")

    assert source.name == "day-{0..2}/images.tar"
    paths = list(source.paths())
    assert paths == [f"day-{day}/images.tar/{i}.png" for day in range(3) for i in range(4)]
    assert [source.read(path, LIMIT) for path in paths] == [f"{d} {i}".encode() for d in range(3) for i in range(4)]
    assert [source.size(path) for path in paths] == [3] * 12
    assert source.labels(paths) is None  # where a shard lies is no class


def test_ranges_in_folders_and_names_multiply(tmp_path: Path) -> None:
    names = ["1-a/08.tar", "1-a/09.tar", "2-a/08.tar", "2-a/09.tar"]
    for name in names:
        write_tar(tmp_path / name, {"cat/1.png": name.encode()})
    source = open_source(f"{tmp_path}/{{1..2}}-a/{{08..09}}.tar")

    assert [source.read(path, LIMIT).decode() for path in source.paths()] == names


def test_a_shard_that_is_missing_is_named(fashion_folder: Path, tmp_path: Path) -> None:
    write_shards(tmp_path, fashion_folder, "none")

    with pytest.raises(UsageError, match=r"set-04\.tar: no such shard"):
        open_source(f"{tmp_path}/set-{{00..10}}.tar")
    with pytest.raises(UsageError, match="an empty range: no such shard"):
        open_source(f"{tmp_path}/set-{{01..00}}.tar")


def test_labels_are_the_top_folders() -> None:
    assert labels_of(["b/1.png", "a/x/2.png", "b/3.png"]) == ([1, 0, 1], ["a", "b"])


@pytest.mark.parametrize("paths", [[], ["1.png", "2.png"], ["a/1.png", "a/b/2.png"], ["a/1.png", "b/2.png", "3.png"]])
def test_no_labels_without_two_folders_that_hold_everything(paths: list[str]) -> None:
    assert labels_of(paths) is None

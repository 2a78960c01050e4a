"""Archives as other programs write them, and the indexes that are kept of them."""

import io
import os
import pickle
import shutil
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl.errors import UsageError
from vssl.images.names import encode_name
from vssl.sources import patience
from vssl.sources.archives import indexes, tars
from vssl.sources.archives.archive_file import ArchiveFile, Stamp, archive_file
from vssl.sources.archives.draft import Draft, key_of, name_of
from vssl.sources.archives.indexes import Indexes
from vssl.sources.folder import Folder
from vssl.sources.opening import open_source
from vssl.sources.source import Source

LIMIT = 1000
REST = 0.05


@pytest.fixture(autouse=True, scope="module")
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "PAUSES", (0,))
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache; every archive counts as a large one, and none is held."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(indexes, "SMALL", 1)
    monkeypatch.setattr(indexes, "SETTLED_NS", int(REST * 0.8e9))
    forget(monkeypatch)
    return tmp_path / "cache" / "vssl"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process would begin."""
    monkeypatch.setattr("vssl.sources.archives.archive.HELD", Indexes())


def write_zip(path: Path, names: list[str], system: int = 3) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            member = zipfile.ZipInfo("x")
            member.filename, member.create_system = name, system  # ZipInfo itself would mend the name
            file.writestr(member, name)


def write_tar(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            file.addfile(member, io.BytesIO(name.encode()))


def contents(source: Source) -> dict[str, str]:
    return {path: source.read(path, LIMIT).decode() for path in source.paths()}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("prefix", "separator"),
    [("", "/"), ("./", "/"), ("/", "/"), ("../", "/"), ("../../", "/"), ("a/../", "/"), ("", "\\"), (".\\", "\\")],
)
def test_names_as_other_programs_write_them(tmp_path: Path, kind: str, prefix: str, separator: str) -> None:
    names = [f"{prefix}{name.replace('/', separator)}" for name in ("cat/1.png", "cat/2.png", "dog/deep/3.png")]
    path = tmp_path / f"a.{kind}"
    (write_zip if kind == "zip" else write_tar)(path, names)
    source = open_source(str(path))

    assert contents(source) == dict(zip(["cat/1.png", "cat/2.png", "dog/deep/3.png"], names, strict=True))
    assert source.labels(list(source.paths())) == ([0, 0, 1], ["cat", "dog"])
    assert contents(open_source(f"{path}::dog/deep")) == {"3.png": names[2]}
    assert source.passed_over.counts == {}


def test_a_zip_of_windows_with_drives_and_backslashes(tmp_path: Path) -> None:
    names = ["C:\\set\\cat\\1.png", "C:\\set\\cat\\", "D:\\other.png", "with/slash\\2.png"]
    write_zip(tmp_path / "a.zip", names, system=0)
    assert list(open_source(str(tmp_path / "a.zip")).paths()) == [
        "other.png",
        "set/cat/1.png",
        "with/slash\\\\2.png",
    ]


def test_two_members_that_come_to_one_name_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", ["../1.png", "1.png", "/1.png", "notes.txt", ".hidden/2.png", "3.cr3"])
    source = open_source(str(tmp_path / "a.tar"))

    assert contents(source) == {"1.png": "/1.png"}
    assert source.passed_over.counts == {
        "files replaced by a later one of their name": 2,
        ".txt": 1,
        "hidden files": 1,
        ".cr3": 1,
    }


def test_tars_one_after_another(tmp_path: Path) -> None:
    parts = []
    for number in range(3):
        write_tar(tmp_path / "part.tar", [f"{number}/{i}.png" for i in range(3)])
        parts.append((tmp_path / "part.tar").read_bytes())
    (tmp_path / "a.tar").write_bytes(b"".join(parts))
    source = open_source(str(tmp_path / "a.tar"))

    assert contents(source) == {name: name for name in (f"{n}/{i}.png" for n in range(3) for i in range(3))}
    assert not source.passed_over.unreadable


def test_what_follows_a_tar_and_is_none_is_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", ["1.png"])
    with (tmp_path / "a.tar").open("ab") as file:
        file.write(b"a signature")
    source = open_source(str(tmp_path / "a.tar"))

    assert contents(source) == {"1.png": "1.png"}
    assert source.passed_over.unreadable == {"a.tar": "what follows byte 10,240 is no tar archive"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_links_in_an_archive(tmp_path: Path, kind: str) -> None:
    """To files and folders in it, to nothing, and back to where they lie."""
    tree = tmp_path / "tree"
    (tree / "real").mkdir(parents=True)
    for name in ("real/1.png", "real/2.png"):
        (tree / name).write_bytes(name.encode())
    links = {
        "class": "real",
        "again": "class",
        "file.png": "class/../real/1.png",
        "real/one.png": "1.png",
        "real/loop": "..",
        "gone.png": "nowhere.png",
        "gone": "nowhere",
    }
    for name, target in links.items():
        (tree / name).symlink_to(target)
    path = tmp_path / f"a.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as file:
            file.add(tree, ".")
    else:
        with zipfile.ZipFile(path, "w") as packed:
            for found in sorted(tree.rglob("*")):
                member = zipfile.ZipInfo(str(found.relative_to(tree)))
                if found.is_symlink():
                    member.external_attr = 0o120777 << 16
                    packed.writestr(member, str(found.readlink()))
                elif found.is_file():
                    packed.writestr(member, found.read_bytes())
    source = open_source(str(path))

    paths = list(source.paths())
    assert paths == list(open_source(str(tree)).paths())
    assert source.read("again/1.png", LIMIT) == source.read("file.png", LIMIT) == b"real/1.png"
    assert source.read("class/one.png", LIMIT) == b"real/1.png"
    with pytest.raises(OSError, match="a link to nothing"):
        source.read("gone.png", LIMIT)
    assert source.passed_over.counts == {"links in a loop": 1, "links to folders": 2, "links to nothing": 1}


name = st.text(st.sampled_from("ab.\\-\x01é\udce9 "), min_size=1, max_size=4).filter(lambda name: name.strip(".") != "")
path_names = st.lists(st.lists(name, min_size=1, max_size=3).map("/".join), max_size=12)


@given(path_names)
def test_an_index_finds_what_a_dictionary_does_and_sorts_as_names_do(names: list[str]) -> None:
    names = [*names, "a/b"]
    draft = Draft()
    for number, each in enumerate(names):
        draft.add(each, tars.TAR.pack(number, 7))
    data = io.BytesIO()
    stamp = Stamp(0, 0, 0)
    head = indexes._write(data, archive_file(Path("x")), stamp, draft.finish())
    index = indexes.Index(data.getvalue(), head, len(draft.records), None)
    last = {encode_name(each): number for number, each in enumerate(names)}
    for each, number in last.items():
        assert index.find(each) == tars.TAR.pack(number, 7)
    assert index.find("nowhere/else") is None
    keys = [record.partition(b"\0\0")[0] for record in index]
    assert list(dict.fromkeys(map(name_of, keys))) == sorted(last, key=lambda each: each.split("/"))
    for folder in {each.rpartition("/")[0] for each in last} - {""}:
        inside = [each for each in sorted(map(encode_name, names)) if each.startswith(f"{folder}/")]
        assert sorted(name_of(keys[number]) for number in index.within(folder)) == inside
    assert all(name_of(key_of(each)) == each for each in last)
    tops = {each.split("/")[0] for each in last if "/" in each}
    assert index.tops(99) == sorted(tops, key=key_of)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tars that are searched from here on."""
    read: list[str] = []
    really_read = tars.read_tar

    def read_tar(archive: ArchiveFile) -> Draft:
        read.append(Path(str(archive)).name)
        return really_read(archive)

    monkeypatch.setattr("vssl.sources.archives.tars.read_tar", read_tar)
    return read


def test_an_index_is_kept(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i % 3}/{i}.png" for i in range(50)] + ["notes.txt"]
    write_tar(tmp_path / "a.tar", names)
    time.sleep(REST)
    read = counting(monkeypatch)
    first = contents(open_source(str(tmp_path / "a.tar")))
    for _ in range(2):
        forget(monkeypatch)
        source = open_source(str(tmp_path / "a.tar"))
        assert contents(source) == first
        assert source.passed_over.counts == {".txt": 1}
    assert read == ["a.tar"]
    write_tar(tmp_path / "a.tar", [name.replace("png", "jpg") for name in names])  # of the same size
    forget(monkeypatch)
    assert next(open_source(str(tmp_path / "a.tar")).paths()).endswith(".jpg")
    assert read == ["a.tar", "a.tar"]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "of another"])
def test_what_is_no_index_of_it_is_made_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    write_tar(tmp_path / "a.tar", [f"{i}.png" for i in range(50)])
    write_tar(tmp_path / "b.tar", [f"{i}.jpg" for i in range(50)])
    time.sleep(REST)
    first = contents(open_source(str(tmp_path / "a.tar")))
    (place,) = cache.iterdir()
    whole = place.read_bytes()
    if damage == "of another":
        open_source(str(tmp_path / "b.tar"))
        (other,) = set(cache.iterdir()) - {place}
        shutil.copy(other, place)
    else:
        changed = whole[:-9] + b"x" + whole[-8:]
        place.write_bytes({"cut": whole[:-100], "changed": changed, "empty": b""}[damage])
    forget(monkeypatch)
    assert contents(open_source(str(tmp_path / "a.tar"))) == first
    assert place.read_bytes() == whole


def test_a_tar_that_was_just_written_and_one_without_a_cache(cache: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", ["1.png"])
    assert contents(open_source(str(tmp_path / "a.tar"))) == {"1.png": "1.png"}
    assert not list(cache.parent.glob("*/*"))
    cache.parent.mkdir(exist_ok=True)
    cache.touch()
    time.sleep(REST)
    assert contents(open_source(str(tmp_path / "a.tar"))) == {"1.png": "1.png"}


def test_only_shards_that_are_read_are_searched(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a node of a cluster, which has the paths from elsewhere."""
    for number in range(4):
        write_tar(tmp_path / "set" / f"{number}.tar", [f"{number}-{i}.png" for i in range(5)])
    read = counting(monkeypatch)
    source = pickle.loads(pickle.dumps(open_source(str(tmp_path / "set"))))
    assert source.read("2.tar/2-4.png", LIMIT) == b"2-4.png"
    assert source.size("2.tar/2-1.png") == 7
    assert read == ["2.tar"]
    assert next(source.paths()) == "0.tar/0-0.png"
    assert read == ["2.tar", "0.tar"]


def test_few_indexes_are_held_and_all_are_found(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        write_tar(tmp_path / "set" / f"{number}.tar", [f"{number}-{i}.png" for i in range(5)])
    monkeypatch.setattr(indexes, "HELD_BYTES", 1)
    monkeypatch.setattr(indexes, "SMALL", 100)
    read = counting(monkeypatch)
    source = open_source(str(tmp_path / "set"))
    assert len(contents(source)) == 20
    assert read == [f"{number}.tar" for number in range(4)]
    source.read("1.tar/1-0.png", LIMIT)
    source.read("1.tar/1-1.png", LIMIT)
    assert read[4:] == ["1.tar"]


def test_many_threads_search_a_shard_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar", [f"{i}.png" for i in range(5)])
    read = counting(monkeypatch)
    source = open_source(str(tmp_path))
    gate = threading.Barrier(8)

    def work(number: int) -> bytes:
        gate.wait()
        return source.read(f"a.tar/{number % 5}.png", LIMIT)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [f"{number % 5}.png".encode() for number in range(8)]
    assert read == ["a.tar"]


def test_a_shard_that_is_damaged_hides_no_other(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", [f"{number}-{i}.png" for i in range(3)])
    (tmp_path / "1.tar").write_bytes(b"nothing of the kind" * 100)
    (tmp_path / "index.json").touch()
    source = open_source(str(tmp_path))

    assert [path[0] for path in source.paths()] == ["0"] * 3 + ["2"] * 3
    assert list(source.passed_over.unreadable) == ["1.tar"]
    assert "no tar archive" in source.passed_over.unreadable["1.tar"]
    assert source.passed_over.counts == {".json": 1}
    for ask in (source.label, source.size, lambda path: source.read(path, LIMIT)):
        with pytest.raises(OSError, match="no tar archive"):
            ask("1.tar/1-0.png")  # as another node may, which was told so


def test_an_archive_that_is_missing_is_no_pattern(tmp_path: Path) -> None:
    for missing in ("photos [2019].zip", "photos [2019].tar", "photos [2019].zip::cat", "set-*.tar"):
        with pytest.raises(UsageError, match=r"\.(zip|tar): no such file or folder; a pattern names images"):
            open_source(f"{tmp_path}/{missing}")
    write_zip(tmp_path / "photos [2019].zip", ["cat/1.png"])
    assert list(open_source(f"{tmp_path}/photos [2019].zip::cat").paths()) == ["1.png"]
    assert isinstance(open_source(f"{tmp_path}/photos [2019]*.png"), Folder)


def test_a_zip_that_is_cut_after_it_was_opened(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", [f"{i}.png" for i in range(50)])
    source = open_source(str(tmp_path / "a.zip"))
    os.truncate(tmp_path / "a.zip", 1000)
    with pytest.raises(OSError, match=r"can't be read from the archive: .*ends too early"):
        source.read("49.png", LIMIT)

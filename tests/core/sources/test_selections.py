"""Files by a pattern, against the standard library's glob, and files by a list."""

import codecs
import glob
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl.errors import UsageError
from vssl.sources.opening import open_source
from vssl.sources.selections import BLOCK, Listed, Matching, matches, split

TREE = ("1.jpg", "a/1.jpg", "a/2.png", "a/b/1.jpg", "a/b/c/12.jpg", "d/1.jpg", "d/[x].jpg", "a/notes.txt")
PATTERNS = ("*.jpg", "**/*.jpg", "a/*", "a/**/*.jpg", "?/1.jpg", "[ab]/**/1*.jpg", "**/b/*", "**/[[]x].jpg", "a/**")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_what_the_shell_finds(tree: Path, pattern: str) -> None:
    source = open_source(f"{tree}/{pattern}")
    found = {
        Path(path).relative_to(tree).as_posix()
        for path in glob.glob(f"{tree}/{pattern}", recursive=True)  # noqa: PTH207 — the oracle
        if Path(path).is_file() and not path.endswith(".txt")
    }
    assert found
    names = list(source.paths())
    root = source.root.relative_to(tree).as_posix() if isinstance(source, Matching) else ""
    assert {name if root == "." else f"{root}/{name}" for name in names} == found
    assert [source.read(name, 100).decode() for name in names] == [
        name if root == "." else f"{root}/{name}" for name in names
    ]


def test_a_folder_that_is_called_like_a_pattern_is_a_folder(tree: Path) -> None:
    (tree / "[ab]").mkdir()
    (tree / "[ab]" / "x.png").write_bytes(b"x")
    assert list(open_source(f"{tree}/[ab]").paths()) == ["x.png"]


def test_a_pattern_in_no_folder_says_which(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere"):
        open_source(f"{tmp_path}/nowhere/*.jpg")
    assert list(open_source(f"{tmp_path}/*.jpg").paths()) == []


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=4), st.lists(st.sampled_from(["a", "*", "**"]), max_size=4))
def test_two_stars_stand_for_any_number_of_folders(names: list[str], pattern: list[str]) -> None:
    """Against a regular expression of the whole path."""
    import re

    parts = ["(?:[^/]+/)*" if part == "**" else "[^/]+/" if part == "*" else f"{part}/" for part in pattern]
    if pattern and pattern[-1] == "**":
        parts.append(".+")
    expected = re.fullmatch("".join(parts), "".join(f"{name}/" for name in names)) is not None
    if names or not pattern:
        assert matches(names, pattern) == expected


def test_many_double_stars_take_no_time() -> None:
    """Tried one after the other, 20 of them in 40 folders are 10¹² ways."""
    assert not matches(["a"] * 40 + ["x.png"], ["**"] * 20 + ["*.jpg"])
    assert matches(["a"] * 40 + ["x.jpg"], ["**"] * 20 + ["*.jpg"])


def test_folders_that_a_pattern_cant_reach_are_left_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, scandir = set(), os.scandir

    def watching(place: Path) -> object:
        entered.add(Path(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", watching)
    assert list(open_source(f"{tree}/*/1.jpg").paths()) == ["a/1.jpg", "d/1.jpg"]
    assert entered == {tree, tree / "a", tree / "d"}


def test_a_list_has_each_file_once_in_its_order(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    odd = os.fsdecode(b"a/caf\xe9\\.jpg")
    (tree / odd).write_bytes(b"odd")
    names = ["d/1.jpg", str(tree / "1.jpg"), "d/1.jpg", odd, "a/notes.txt", "nowhere.jpg", "d/1.jpg"]
    source = Listed(map(os.fsencode, names))
    try:
        expected = ["d/1.jpg", str(tree / "1.jpg"), "a/caf\\udce9\\\\.jpg", "a/notes.txt", "nowhere.jpg"]
        assert list(source.paths()) == list(source.paths()) == expected
        assert source.passed_over.counts == {"named again in the list": 2}
        assert [source.read(path, 100) for path in expected[:3]] == [b"d/1.jpg", b"1.jpg", b"odd"]
        with pytest.raises(OSError, match="No such file"):
            source.read("nowhere.jpg", 100)
    finally:
        source.close()


def no_mark(name: bytes) -> bool:
    """A byte order mark is none of a list's first name."""
    return not name.startswith(codecs.BOM_UTF8)


@given(
    st.lists(
        st.binary(min_size=1, max_size=9).filter(lambda name: not {0, 10, 13} & set(name)).filter(no_mark), max_size=9
    ),
    st.booleans(),
)
def test_names_come_apart_at_line_ends_or_at_nul(names: list[bytes], ended: bool) -> None:
    for end in (b"\n", b"\0"):
        text = end.join(names) + (end if ended or len(names) == 1 else b"")
        assert list(split(io.BytesIO(text))) == names


def test_a_name_may_lie_across_two_blocks() -> None:
    names = [b"x" * 1000 + str(number).encode() for number in range(BLOCK // 500)]
    assert list(split(io.BytesIO(b"\n".join(names)))) == names


@pytest.mark.parametrize("block", [1, 2, 5, 65536])
def test_lists_that_windows_writes(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("vssl.sources.selections.BLOCK", max(block, 3))
    assert list(split(io.BytesIO(b"\xef\xbb\xbfa.png\r\nb c.png\r\n\r\nd.png\r"))) == [b"a.png", b"b c.png", b"d.png"]
    assert list(split(io.BytesIO(b"a\r\0b\0"))) == [b"a\r", b"b"]

"""Listings of large folders: kept, believed only while the folders are as they were, and never in the way."""

import contextlib
import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from vssl.sources import listing_cache as listings
from vssl.sources.listing_cache import cached_paths
from vssl.sources.opening import open_source

NAMES = ("1.png", "b/2.jpg", "b/c/3.png", "d/4.png", "d/notes.txt", "é\n\\.png")
REST = 0.05
"""Seconds after which a folder of these tests counts as left alone; a file system's clock may tick every 0.01 s."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache; every folder counts as a large one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(listings, "SMALL", 1)
    monkeypatch.setattr(listings, "SETTLED_NS", int(REST * 0.8e9))
    return tmp_path / "cache" / "vssl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        write(tmp_path / "images" / name)
    time.sleep(REST)
    return tmp_path / "images"


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def paths(folder: Path) -> list[str]:
    return list(open_source(str(folder)).paths())


def searched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Number of folders that are listed to get the paths."""
    count, scandir = 0, os.scandir

    def counting(place: Path) -> object:
        nonlocal count
        count += 1
        return scandir(place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", counting)
        list(open_source(str(folder)).paths())
    return count


def test_a_listing_is_read_back(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = searched(folder, monkeypatch)
    assert searched(folder, monkeypatch) == once - 4  # what `open_source` itself looks at stays
    known = cached_paths(folder)
    assert known is not None
    shutil.copytree(cache, cache.with_name("other"))
    listed = paths(folder)
    shutil.rmtree(cache)
    files = list(known)
    assert [path for path, kind in files if kind is None] == listed == paths(folder)
    assert len(listed) == 5
    assert [(path, kind) for path, kind in files if kind is not None] == [("d/notes.txt", ".txt")]


def test_a_listing_knows_what_was_passed_over(cache: Path, folder: Path) -> None:
    source = open_source(str(folder))
    counts = []
    for _ in range(2):
        list(source.paths())
        counts.append(source.passed_over.counts)
    assert any(cache.iterdir())
    assert counts == [{".txt": 1}] * 2


@pytest.mark.parametrize(
    "line",
    [
        '"../secret.png"',
        '"/etc/secret.png"',
        '"b/../../secret.png"',
        r'"\u002e\u002e/secret.png"',
        '{"../secret.txt": ".txt"}',
        '["../", 1, 2]',
        '"no end',
        "7",
    ],
)
def test_a_planted_listing_leads_nowhere(cache: Path, folder: Path, line: str) -> None:
    """One that is whole and fits the folder, but for a line."""
    listed = paths(folder)
    (place,) = cache.iterdir()
    lines = gzip.decompress(place.read_bytes())
    place.write_bytes(gzip.compress(lines + line.replace(r"\\u", r"\u").encode() + b"\n"))
    assert cached_paths(folder) is None
    assert paths(folder) == listed


def test_a_link_to_nothing_may_lead_to_images_later(cache: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "later").symlink_to(tmp_path / "mounted")
    time.sleep(REST)
    before = paths(folder)
    write(tmp_path / "mounted" / "1.png")
    assert paths(folder) == sorted([*before, "later/1.png"])


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root / "b/c/new.png"),
        lambda root: write(root / "new/new.png"),
        lambda root: (root / "b/c/3.png").unlink(),
        lambda root: (root / "b/2.jpg").rename(root / "b/z.jpg"),
        lambda root: (root / "b/2.jpg").rename(root / "d/2.jpg"),
        lambda root: (root / "b/c").rename(root / "b/e"),
        lambda root: shutil.rmtree(root / "d"),
        lambda root: [path.unlink() for path in root.rglob("*.png")],
    ],
)
def test_a_change_is_seen(cache: Path, folder: Path, change: Callable[[Path], object]) -> None:
    before = paths(folder)
    change(folder)
    time.sleep(REST)
    after = paths(folder)
    assert after != before
    assert sorted(after) == sorted(
        str(path.relative_to(folder)).replace("\\", "\\\\") for path in folder.rglob("*.[pj][np]g")
    )
    assert paths(folder) == after


def test_a_change_whose_time_was_set_back_is_seen(cache: Path, folder: Path) -> None:
    before, times = paths(folder), (folder / "b").stat()
    write(folder / "b/new.png")
    os.utime(folder / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert paths(folder) == sorted([*before, "b/new.png"])


@pytest.mark.parametrize("data", [b"", b"no listing", "half", "other folder"])
def test_what_is_no_listing_of_it_is_written_anew(cache: Path, folder: Path, tmp_path: Path, data: bytes | str) -> None:
    listed = paths(folder)
    (place,) = cache.iterdir()
    whole = place.read_bytes()
    if data == "other folder":
        write(tmp_path / "second" / "x.png")
        time.sleep(REST)
        paths(tmp_path / "second")
        (other,) = set(cache.iterdir()) - {place}
        place.write_bytes(other.read_bytes())
    else:
        place.write_bytes(whole[: len(whole) // 2] if isinstance(data, str) else data)
    assert paths(folder) == listed
    assert place.read_bytes() == whole


def test_a_cache_that_is_no_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(paths(folder)) == 5


def test_a_small_folder_or_one_that_changes_is_not_kept(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "SETTLED_NS", 10**12)
    paths(folder)
    monkeypatch.setattr(listings, "SETTLED_NS", 0)
    monkeypatch.setattr(listings, "SMALL", 7)
    paths(folder)
    assert not list(cache.iterdir())


def test_a_listing_that_is_not_read_to_its_end_is_not_kept(cache: Path, folder: Path) -> None:
    found = open_source(str(folder)).paths()
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert not list(cache.iterdir())


def test_killed_while_it_is_written(cache: Path, folder: Path) -> None:
    """Killed by the kernel between the draft and its place: the old listing stays, and goes on to be checked."""
    paths(folder)
    (place,) = cache.iterdir()
    whole = place.read_bytes()
    write(folder / "new.png")
    code = (
        "import os, signal, sys\n"
        "from vssl.sources import listing_cache as listings\n"
        "from vssl.sources.opening import open_source\n"
        "listings.SMALL = listings.SETTLED_NS = 1\n"
        "os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)\n"
        "list(open_source(sys.argv[1]).paths())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert place.read_bytes() == whole
    time.sleep(REST)
    assert "new.png" in paths(folder)
    assert place.read_bytes() != whole


class Folders(RuleBasedStateMachine):
    """Whatever is done to a folder, what is remembered of it is what a search would find."""

    place: Path

    def __init__(self) -> None:
        super().__init__()
        self.images = Path(tempfile.mkdtemp(dir=self.place)) / "images"
        self.images.mkdir()

    @rule(folder=st.sampled_from(["", "a", "a/b", "c"]), name=st.sampled_from(["1.png", "2.jpg", "3.txt"]))
    def add(self, folder: str, name: str) -> None:
        write(self.images / folder / name)

    @rule(folder=st.sampled_from(["a", "a/b", "c"]))
    def remove(self, folder: str) -> None:
        shutil.rmtree(self.images / folder, ignore_errors=True)

    @rule(old=st.sampled_from(["a", "a/b", "c", "1.png", "a/1.png"]), new=st.sampled_from(["d", "e.png", "c/9.png"]))
    def rename(self, old: str, new: str) -> None:
        with contextlib.suppress(OSError):  # nothing to rename, or no place for it
            (self.images / old).rename(self.images / new)

    @rule()
    def rest(self) -> None:
        time.sleep(REST)

    def teardown(self) -> None:
        """Whatever was drawn, a listing is kept and looked up once."""
        write(self.images / "last.png")
        self.rest()
        self.the_same()
        self.the_same()

    @invariant()
    def the_same(self) -> None:
        found = [path for path in self.images.rglob("*") if path.suffix in (".png", ".jpg") and path.is_file()]
        assert sorted(paths(self.images)) == sorted(str(path.relative_to(self.images)) for path in found)


def test_any_changes_are_seen(cache: Path, tmp_path: Path) -> None:
    class Here(Folders):
        place = tmp_path

    run_state_machine_as_test(Here, settings=settings(max_examples=15, stateful_step_count=15, deadline=None))
    assert any(cache.iterdir())

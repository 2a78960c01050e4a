from collections.abc import Callable
from pathlib import Path

import pytest

from vssl.caches import CacheUnavailableError, cache_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_made_private_and_found_again(home: Path) -> None:
    made = cache_folder("engines", "abc")
    assert made == home / "vssl" / "engines" / "abc"
    assert [folder.stat().st_mode & 0o077 for folder in (made, made.parent, made.parent.parent)] == [0, 0, 0]
    assert cache_folder("engines", "abc") == made


def planted(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def linked(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


def a_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()


@pytest.mark.parametrize("place", ["vssl", "vssl/engines", "vssl/engines/abc"])
@pytest.mark.parametrize(("plant", "problem"), [(planted, "written by others"), (linked, "link"), (a_file, "file")])
def test_what_somebody_else_could_have_planted_is_not_used(
    home: Path, place: str, plant: Callable[[Path], None], problem: str
) -> None:
    home.mkdir()
    if "/" in place:
        cache_folder(*Path(place).parent.parts[1:])
    plant(home / place)
    with pytest.raises(CacheUnavailableError, match=problem):
        cache_folder("engines", "abc")


def test_another_owner_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder()
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(CacheUnavailableError, match="belongs to another user"):
        cache_folder()

"""`vssl gallery … --at http://…` says what it says of the same gallery on this disk, and fills and keeps galleries."""

import csv
import json
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.client.commands.test_gallery import lines, run
from tests.client.conftest import pictures
from tests.client.processes import command, serving, vssl
from tests.conftest import FASHION
from tests.ports import free_port
from vssl.bundle.reading import Bundle


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred and some, in class folders."""
    folder = tmp_path_factory.mktemp("images")
    with zipfile.ZipFile(FASHION) as archive:
        names = [name for name in archive.namelist() if name.startswith("test/") and name.endswith(".png")]
        archive.extractall(folder, names[::4])
    return folder / "test"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle, images: Path) -> Path:
    """A place with the gallery `clothes`, which no test changes."""
    at = tmp_path_factory.mktemp("galleries")
    run("create", "clothes", "--bundle", tiny_bundle.location, "--at", at)
    run("add", "clothes", images, "--bundle", tiny_bundle.location, "--at", at)
    return at


@pytest.fixture(scope="module")
def there(here: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of that place, for a key that may do everything; the key is in the environment."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys").write_text("secret name=all scopes=embed,admin,search:*,write:*\n")
    flags = ["--api-keys-file", str(folder / "keys"), "--snapshot-root", str(folder), "--galleries", str(here)]
    with serving(tiny_bundle.location, *flags) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSSL_API_KEY", "secret")
        yield url


def some(images: Path, count: int) -> list[str]:
    return [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))[:count]]


def test_the_same_words_say_the_same(here: Path, there: str, images: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    ids = [word for name in some(images, 3) for word in ("--id", name)]
    for words in (
        ["info", "clothes"],
        ["list"],
        ["list", "--json"],
        ["search", "clothes", *ids, "-k", 4, "--column", "label", "--column", "width"],
        ["search", "clothes", *ids, "-k", 2, "--where", '{"label": "shirt"}', "--score", "mls", "--json"],
        ["classify", "clothes", *ids],
        ["duplicates", "clothes", "--threshold", 0.95, "--json"],
        ["outliers", "clothes", "-n", 3],
        ["pick", "clothes", "-n", 3],
    ):
        assert run(*words, "--at", there) == run(*words, "--at", here), words
    file = images / some(images, 9)[-1]
    ask = ["search", "clothes", file, "-k", 3]
    assert run(*ask, "--at", there) == run(*ask, "--at", here, "--bundle", tiny_bundle.location)
    for name, at in (("here", here), ("there", there)):
        run("export", "clothes", "-o", tmp_path / f"{name}.csv", "--at", at)
        run("map", "clothes", "--fast", "-o", tmp_path / f"{name}-map.csv", "--at", at)
    with (tmp_path / "here.csv").open() as one, (tmp_path / "there.csv").open() as other:
        assert sorted(csv.reader(one)) == sorted(csv.reader(other))
    with (tmp_path / "here-map.csv").open() as one, (tmp_path / "there-map.csv").open() as other:
        assert [row["id"] for row in csv.DictReader(one)] == [row["id"] for row in csv.DictReader(other)]


def test_images_are_embedded_there_or_here(there: str, images: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    count = len(some(images, 1000))
    (tmp_path / "known.csv").write_text(f"path,year,shelf\n{some(images, 1)[0]},2020,top\n")
    vssl("embed", images, "-o", tmp_path / "out", "--bundle", tiny_bundle.location, "-q")
    fill = {
        "sent": ["add", "sent", images, "--metadata", tmp_path / "known.csv", "--json"],
        "embedded": ["add", "embedded", images, "--bundle", tiny_bundle.location, "--json"],
        "imported": ["import", "imported", tmp_path / "out"],
    }
    found = {}
    for name, words in fill.items():
        run("create", name, "--field", "year=integer", "--at", there)
        run(*words, "--at", there)
        assert json.loads(run("info", name, "--json", "--at", there))["rows"] == count
        found[name] = run("search", name, "--id", some(images, 1)[0], "--column", "label", "--at", there)
    assert found["sent"] == found["embedded"] == found["imported"]
    assert run("search", "sent", "--id", some(images, 1)[0], "--where", '{"year": 2020}', "--at", there)
    again = json.loads(run(*fill["sent"], "--at", there))
    assert (again["embedded"], again["new"]) == (count, 0)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.png").write_bytes(b"no image")
    (tmp_path / "bad" / "good.png").write_bytes(pictures(1)[0])
    said = run("add", "sent", tmp_path / "bad", "--at", there, status=1)
    assert "1 images of the source, 1 failed" in said
    assert "bad.png: not_an_image" in said
    for name in fill:
        assert run("delete", name, "--all", "--at", there) == f"{name}: gone\n"


def test_a_gallery_is_kept_there(
    here: Path, there: str, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = next(path for path in tmp_path_factory.getbasetemp().iterdir() if path.name.startswith("server"))
    run("snapshot", "clothes", "-o", root / "snapshot", "--at", there)
    said = run("restore", "own", root / "snapshot", "--at", there)
    assert said == f"own: {len(some(images, 1000)):,} rows at {there}\n"
    fitted = json.loads(run("calibrate", "own", "--json", "--at", there))
    assert fitted == json.loads(run("calibrate", "own", "--json", "--at", here))
    ids = [word for name in some(images, 3) for word in ("--id", name)]
    assert all(0 <= row["p_correct"] <= 1 for row in lines(run("classify", "own", *ids, "--json", "--at", there)))
    assert run("label", "own", "odd", *some(images, 2), "nothing", "--at", there) == "own: 2 of 3 rows labelled\n"
    assert run("delete", "own", "--where", '{"label": "odd"}', "--at", there) == "own: 2 rows deleted\n"
    assert run("maintain", "own", "--at", there)
    run("alias", "current", "own", "--at", there)
    assert run("list", "--at", there) == "clothes\nown\ncurrent → own\n"
    run("alias", "current", "--at", there)
    run("delete", "own", "--all", "--at", there)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["info", "nothing"], 2, "nothing"),
        (["create", "x", "--field", "year=date"], 2, "fields.year"),
        (["create", "clothes", "--bundle", "builtin:tiny"], 2, "its own model"),
        (["search", "clothes", "--id", "nothing"], 1, "no such row"),
        (["delete", "clothes", "--where", '{"colour": 1}', "--dry-run"], 2, "colour"),
        (["add", "clothes", "nowhere"], 2, "nowhere"),
        (["delete", "clothes", "--where", "{}"], 2, "empty filter"),
        (["snapshot", "clothes", "-o", "/elsewhere"], 1, "snapshot-root"),
    ],
)
def test_what_is_refused(there: str, words: list[str], status: int, says: str) -> None:
    assert says in run(*words, "--at", there, status=status)


HELD = """
import pathlib, time
from vssl_client.filling import adding, sending
adding.MAX_IMAGES = 16
sent, calls = sending.SendThere._sent, []
def held(*given):
    calls.append(given)
    while len(calls) > 2 and not pathlib.Path({go!r}).exists():
        time.sleep(0.01)
    return sent(*given)
sending.SendThere._sent = held
"""


@pytest.mark.slow  # a failover; a server that is told to end while it is filled is the small form
def test_a_job_goes_on_when_the_server_drains_and_another_takes_its_place(
    images: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    place, go, port = tmp_path / "galleries", tmp_path / "go", free_port()
    flags, at = ["--galleries", str(place)], f"http://127.0.0.1:{port}"
    words: list[str | Path] = ["gallery", "add", "clothes", images, "--json", "--at", at]
    with ExitStack() as ends:
        with serving(tiny_bundle.location, *flags, port=port):
            run("create", "clothes", "--at", at)
            line = command(*words, before=HELD.format(go=str(go)))
            adding = ends.enter_context(subprocess.Popen(line, stdout=subprocess.PIPE, text=True))
            ends.callback(adding.kill)
            end = time.monotonic() + 60
            while json.loads(run("info", "clothes", "--json", "--at", at))["rows"] < 16:
                assert time.monotonic() < end
            go.touch()  # and the server is told to end
        with serving(tiny_bundle.location, *flags, port=port):
            said = json.loads(adding.communicate(timeout=120)[0])
            count = len(some(images, 1000))
            assert (adding.returncode, said["embedded"], said["failed"]) == (0, count, 0)
            assert json.loads(run("info", "clothes", "--json", "--at", at))["rows"] == count


def test_a_server_that_is_away_is_named() -> None:
    assert "is the server running?" in run("list", "--at", "http://127.0.0.1:1", status=1)

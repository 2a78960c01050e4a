"""Images in an object store: the same as in a folder, whatever the store does in between."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest

from tests.sick_store import KEYS, SickProxy, sick_store
from vssl.errors import UsageError
from vssl.sources.opening import open_source
from vssl.sources.source import Source

NAMES = ("a b.jpg", "é.png", "x#y%20z.jpg", "[1].webp", "w\\v.jpg", "deep/er/q?.jpg", "deep/plus+~.jpg", "emoji 🙂.png")
OTHERS = ("notes.txt", ".hidden.jpg", "deep/", "bare")


@pytest.fixture(scope="module")
def store() -> Iterator[SickProxy]:
    with sick_store("photographs") as proxy:
        client = boto3.client("s3")
        for name in (*NAMES, *OTHERS):
            client.put_object(
                Bucket="photographs", Key=f"set/{name}", Body=b"" if name[-1] == "/" else name.encode() * 50
            )
        client.put_object(Bucket="photographs", Key="settle.jpg", Body=b"beside the prefix")
        for name, kind in (("set.tar", "tar"), ("set.zip", "zip"), ("part-0.tar", "tar"), ("part-1.tar", "tar")):
            client.put_object(Bucket="photographs", Key=f"packed/{name}", Body=archive(kind))
        yield proxy


@pytest.fixture(autouse=True)
def healthy(store: SickProxy) -> Iterator[None]:
    yield
    store.harm = lambda method, path: None
    store.requests.clear()


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in NAMES:
                member = tarfile.TarInfo(f"set/{name}")
                member.size = len(name.encode() * 50)
                tar.addfile(member, io.BytesIO(name.encode() * 50))
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in NAMES:
                zipped.writestr(f"set/{name}", name.encode() * 50)
    return file.getvalue()


def first(count: int, harm: int | str) -> Callable[[str, str], int | str | None]:
    """A harm to the first requests alone."""
    left = [count]

    def decide(method: str, path: str) -> int | str | None:
        left[0] -= 1
        return harm if left[0] >= 0 else None

    return decide


def contents(source: Source) -> dict[str, bytes]:
    return {path: source.read(path, 10_000) for path in source.paths()}


def test_a_prefix_is_read_as_a_folder_is(store: SickProxy, tmp_path: Path) -> None:
    for name in (*NAMES, *OTHERS):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        if name[-1] != "/":
            (tmp_path / "set" / name).write_bytes(name.encode() * 50)
    source, folder = open_source("s3://photographs/set/"), open_source(str(tmp_path / "set"))
    assert contents(source) == contents(folder)
    assert list(source.paths()) == sorted(source.paths(), key=str.encode)
    assert source.passed_over.counts == folder.passed_over.counts
    assert source.name == folder.name == "set"
    assert [source.size(path) for path in source.paths()] == [len(data) for data in contents(source).values()]


def test_a_pattern_a_whole_bucket_and_what_is_not_there(store: SickProxy) -> None:
    assert list(open_source("s3://photographs/set/**/*.png").paths()) == ["emoji 🙂.png", "é.png"]
    assert "set/deep/er/q?.jpg" in list(open_source("s3://photographs").paths())
    assert list(open_source("s3://photographs/none").paths()) == []
    with pytest.raises(FileNotFoundError, match="no such bucket"):
        list(open_source("s3://no-such-bucket/x").paths())
    with pytest.raises(FileNotFoundError):
        open_source("s3://photographs/set").read("gone.jpg", 100)


def test_listing_goes_page_by_page_and_on_after_a_page_that_was_cut(
    store: SickProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(open_source("s3://photographs/set").paths())
    store.harm = first(2, "cut")
    assert list(open_source("s3://photographs/set").paths()) == whole


@pytest.mark.parametrize("harm", [503, 429, "cut"])
def test_errors_that_pass_are_not_noticed(store: SickProxy, harm: int | str) -> None:
    store.harm = first(2, harm)
    assert open_source("s3://photographs/set").read("a b.jpg", 10_000) == b"a b.jpg" * 50


@pytest.mark.parametrize("name", ["set.tar", "set.zip", "part-{0..1}.tar"])
def test_archives_are_read_in_place_by_ranges(store: SickProxy, name: str, cache: Path) -> None:
    source = open_source(f"s3://photographs/packed/{name}")
    found = contents(source)
    shards = ["part-0.tar/", "part-1.tar/"] if "{" in name else [""]
    expected = {f"{shard}set/{path}": path.encode() * 50 for shard in shards for path in NAMES}
    assert {path.replace("\\\\", "\\"): data for path, data in found.items()} == expected
    assert all(source.size(path) == len(data) for path, data in found.items())
    store.requests.clear()
    source.read(next(iter(found)), 10_000)
    assert len(store.requests) == 1
    store.harm = first(2, "cut")
    source.read(next(iter(found)), 10_000)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_archive_that_changes_while_it_is_read_is_an_error_not_other_bytes(store: SickProxy, cache: Path) -> None:
    client = boto3.client("s3")
    client.put_object(Bucket="photographs", Key="changing.tar", Body=archive("tar"))
    source = open_source("s3://photographs/changing.tar::set")
    path = next(source.paths())
    client.put_object(Bucket="photographs", Key="changing.tar", Body=bytes(len(archive("tar"))))
    with pytest.raises(OSError, match="written it meanwhile"):
        source.read(path, 10_000)


def test_no_message_holds_a_credential(store: SickProxy) -> None:
    said = []
    source = open_source("s3://photographs/set")
    for status in (403, 400, 404, 301):
        store.harm = first(100, status)
        for action in (lambda: source.read("a b.jpg", 100), lambda: list(source.paths())):
            with pytest.raises(OSError, match=r"^\[Errno") as caught:
                action()
            said.append(str(caught.value))
    assert "access is denied (the store answers 403 Forbidden, Injected); credentials come from AWS_ACCESS" in said[0]
    for text in said:
        assert "\n" not in text
        assert not any(KEYS[name] in text for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://datasets/x", "huggingface.co/datasets"),
        ("ftp://host/x", "addresses begin with s3://"),
        ("https://user:hidden@host/x.tar", "credentials come from the environment"),
        ("https://host/x.tar?X-Amz-Signature=hidden", "with a query"),
        ("https://host/folder", "can't list"),
        ("s3://*/x", "name a bucket"),
    ],
)
def test_addresses_that_are_not_read(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_source(address)
    assert "hidden" not in str(caught.value)


def test_without_obstore_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(UsageError, match=r"pip install 'vssl\[objects\]'"):
        open_source("s3://another-bucket/x")


class Ranged(SimpleHTTPRequestHandler):
    """Files of a folder, with ranges as web servers have them."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        begin, end = self.headers.get("range", f"bytes=0-{len(data)}").removeprefix("bytes=").split("-")
        part = data[int(begin) : int(end) + 1]
        self.send_response(206 if "range" in self.headers else 200)
        self.send_header("content-range", f"bytes {begin}-{int(begin) + len(part) - 1}/{len(data)}")
        self.send_header("content-length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_on_a_web_server(kind: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "my photos").mkdir()
    (tmp_path / "my photos" / f"set.{kind}").write_bytes(archive(kind))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranged, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        source = open_source(f"http://127.0.0.1:{server.server_port}/my%20photos/set.{kind}::set")
        assert {path.replace("\\\\", "\\"): data for path, data in contents(source).items()} == {
            name: name.encode() * 50 for name in NAMES
        }
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

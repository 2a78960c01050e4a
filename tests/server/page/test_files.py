"""`/ui/` over the real application: what goes out, under which headers, and to whom."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import serving
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_server.page.files import STATIC, read_files
from vssl_server.settings import load_settings

FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def page(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The application with its page and with keys, asked without one."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("somebody:0123456789abcdef\n")
    with serving(tiny_bundle, ui=True, api_keys_file=keys) as running:
        running.client.base_url = "http://localhost"
        yield running.client


def test_every_file_goes_out_as_it_is(page: TestClient) -> None:
    assert FILES
    for name in FILES:
        plain = page.get(f"/ui/{name}", headers={"Accept-Encoding": "identity"})
        assert plain.content == (STATIC / name).read_bytes()
        assert "content-encoding" not in plain.headers
        packed = page.get(f"/ui/{name}", headers={"Accept-Encoding": "br, gzip;q=0.8"})
        assert packed.content == plain.content  # the client unpacks it
        again = page.get(f"/ui/{name}", headers={"If-None-Match": f'"other", W/{plain.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")


def test_modules_are_modules_to_a_browser_and_nothing_loads_from_elsewhere(page: TestClient) -> None:
    for name in FILES:
        answer = page.get(f"/ui/{name}")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' blob:;")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        if name.endswith(".js"):
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


def test_a_browser_gets_to_the_page_without_a_key_but_to_no_gallery(page: TestClient) -> None:
    answer = page.get("/ui", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "ui/")
    assert page.get("/ui/").content == (STATIC / "index.html").read_bytes()
    assert page.head("/ui/").status_code == 200
    assert page.get("/v1/models").status_code == 401


@pytest.mark.parametrize("name", ["%2e%2e/routes.py", "..%2Froutes.py", "vendor", "a%00b", "x" * 5000])
def test_what_is_no_file_of_the_page_is_404(page: TestClient, name: str) -> None:
    answer = page.get(f"/ui/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_a_name_that_was_made_to_point_here_gets_nothing(page: TestClient) -> None:
    assert page.get("/ui/", headers={"Host": "rebound.example"}).status_code == 421


def test_without_ui_there_is_no_page(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle) as running:
        assert running.client.get("/ui/", headers={"Host": "localhost"}).status_code == 404


def test_a_page_that_others_can_reach_names_its_hosts() -> None:
    with pytest.raises(UsageError, match="--allowed-hosts"):
        load_settings({"ui": True, "host": "0.0.0.0"})
    assert load_settings({"ui": True, "host": "0.0.0.0", "allowed_hosts": "vssl.example"}).ui
    assert load_settings({"ui": True}).ui


def test_files_are_compressed_once_and_named_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("let x = 1;\n" * 100)
    (tmp_path / "b.js").write_text("let x = 1;\n")
    files = read_files(tmp_path)
    assert set(files) == {"a.js", "b.js"}
    assert gzip.decompress(files["a.js"].gzipped or b"") == files["a.js"].body
    assert files["b.js"].gzipped is None
    assert files["a.js"].tag != files["b.js"].tag

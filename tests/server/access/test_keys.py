"""The file of keys: what each line says, what a key may do, and that a change of the file is seen."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.conftest import Served, png, serving
from tests.server.http.test_errors import error
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_server.access.keys import Keys
from vssl_server.wire.errors import ApiError

PNG = {"Content-Type": "image/png"}
FILE = """\
bare
named name=anna
search\tname=s   scopes=search:shoes,write:*
both name=root scopes=embed,admin
tenant scopes=search:shoes filter={"tenant": "a b", "n": {"$gte": 2}}
"""


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys").write_text(FILE)
    (folder / "admins").write_text("# one\nadmin name=boss\n")
    return folder


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Bundle, folder: Path) -> Iterator[Served]:
    files = {"api_keys_file": folder / "keys", "admin_keys_file": folder / "admins"}
    with serving(tiny_bundle, name="scoped", **files) as served:  # type: ignore[arg-type]
        yield served


@pytest.mark.parametrize(
    ("key", "embeds", "administers"),
    [("bare", 200, 403), ("search", 403, 403), ("both", 200, 404), ("tenant", 403, 403), ("admin", 403, 404)],
)
def test_what_each_key_may_do(guarded: Served, key: str, embeds: int, administers: int) -> None:
    """404: let through, and there is no such route, for this application has no administration."""
    body: dict[str, list[str]] = {"images": [], "input": [], "inputs": []}
    for path in ("/v1/embed", "/v1/embeddings", "/v2/models/scoped/infer", "/v2/models/scoped/versions/1/infer"):
        answer = guarded.client.post(path, json=body, headers=bearer(key))
        assert (answer.status_code == 403) == (embeds == 403), (path, answer.text)
        if embeds == 403 and path.startswith("/v1"):
            assert "lacks the scope embed" in error(answer, 403, "missing_scope")["message"]
    answer = guarded.client.post("/v1/embed", content=png(1), headers=PNG | bearer(key))
    assert answer.status_code == embeds
    assert guarded.client.get("/v1/models", headers=bearer(key)).status_code == 200
    answer = guarded.client.post("/v2/repository/index", headers=bearer(key))
    assert answer.status_code == administers


def test_a_refusal_is_counted_under_its_route(guarded: Served) -> None:
    guarded.client.post("/v1/embed", content=png(1), headers=PNG)
    guarded.client.post("/v2/models/scoped/infer", json={})
    guarded.client.get("/v2/models/else/config")
    guarded.client.get("/v1/nothing/at/all")
    shown = guarded.client.get("/metrics").text
    for route in ("/v1/embed", "/v2/models/{name}/infer", "/v2/models/{name}/config", "other"):
        assert f'vssl_requests_total{{path="{route}",status="401"}}' in shown


def test_the_name_and_the_union_of_two_files(folder: Path) -> None:
    keys = Keys(folder / "keys", folder / "admins")
    assert [keys.check(f"Bearer {key}").name for key in ("bare", "named", "search", "admin")] == [
        None,
        "anna",
        "s",
        "boss",
    ]
    assert keys.check("Bearer both", "admin").name == "root"
    (folder / "too").write_text("bare name=too\n")
    both = Keys(folder / "keys", folder / "too")
    assert [both.check("Bearer bare", scope).name for scope in ("embed", "admin")] == ["too", "too"]


def test_without_a_file_all_may_embed_and_none_administer(folder: Path) -> None:
    for key in (None, "Bearer any"):
        assert Keys(None).check(key, "embed").name is None
        with pytest.raises(ApiError, match="--admin-keys-file"):
            Keys(None).check(key, "admin")
    with pytest.raises(ApiError) as raised:
        Keys(None, folder / "admins").check("Bearer any", "admin")
    assert raised.value.status == 401


def test_a_change_of_the_file_is_seen(tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"

    def write(text: str) -> None:  # as an editor or a mounted secret does: another file under the same name
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(file)

    write("old\n")
    with serving(tiny_bundle, name="rotated", api_keys_file=file) as served:

        def statuses() -> list[int]:
            return [served.client.get("/v1/models", headers=bearer(key)).status_code for key in ("old", "new")]

        assert statuses() == [200, 401]
        write("old\nnew\n")
        assert statuses() == [200, 200]
        write("new\n")
        assert statuses() == [401, 200]
        caplog.clear()
        for broken in ("", "new name=\n"):
            write(broken)
            assert statuses() == [401, 200]
        file.unlink()
        assert statuses() == [401, 200]
        told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
        assert len(told) == 3
        assert all(str(file) in line and "stay in force" in line for line in told)
        write("old\n")
        assert statuses() == [200, 401]


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_a_line_is_a_key_or_one_error(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any keys"
    file.write_bytes(f"sure\n{line}".encode())
    with suppress(UsageError):
        assert Keys(file).check("Bearer sure", "embed").name is None


def test_a_filter_is_the_rest_of_its_line(folder: Path) -> None:
    (folder / "filtered").write_text('k name=n scopes=embed filter={"name=x": " scopes=admin "}\n')
    keys = Keys(folder / "filtered")
    assert keys.check("Bearer k", "embed").name == "n"
    with pytest.raises(ApiError, match="--admin-keys-file"):
        keys.check("Bearer k", "admin")

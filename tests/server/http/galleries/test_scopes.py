"""Each key × each route × a gallery, from the application's own table of routes: one without an entry here fails."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from tests.server.http.galleries.conftest import Json, ended, filled, with_galleries
from vssl.bundle.reading import Bundle

Needs = Literal["search", "write", "admin", "any", "alias", "job"]
GALLERY = "/v1/galleries/{name}"


class Route(NamedTuple):
    """What a key needs, and a body that is valid."""

    needs: Needs
    body: Json | None = None
    query: str = ""


ROUTES = {
    ("GET", "/v1/galleries"): Route("any"),
    ("GET", GALLERY): Route("search"),
    ("PUT", GALLERY): Route("write", {"fields": {"tenant": "text"}}),
    ("DELETE", GALLERY): Route("write"),
    ("GET", "/v1/aliases"): Route("any"),
    ("PUT", "/v1/aliases/{name}"): Route("alias"),
    ("DELETE", "/v1/aliases/{name}"): Route("alias"),
    ("POST", f"{GALLERY}/images"): Route("write", {"images": []}),
    ("POST", f"{GALLERY}/rows"): Route("write"),
    ("GET", f"{GALLERY}/images"): Route("search"),
    ("PATCH", f"{GALLERY}/images"): Route("write", {"ids": ["none"], "label": "a"}),
    ("GET", f"{GALLERY}/row"): Route("search", query="id=north-0"),
    ("PATCH", f"{GALLERY}/row"): Route("write", {"label": "a"}, "id=none"),
    ("DELETE", f"{GALLERY}/row"): Route("write", query="id=none"),
    ("GET", f"{GALLERY}/thumbnail"): Route("search", query="id=north-0"),
    ("GET", f"{GALLERY}/images/{{id:path}}"): Route("search"),
    ("PATCH", f"{GALLERY}/images/{{id:path}}"): Route("write", {"label": "a"}),
    ("DELETE", f"{GALLERY}/images/{{id:path}}"): Route("write"),
    ("GET", f"{GALLERY}/images/{{id:path}}/thumbnail"): Route("search"),
    ("POST", f"{GALLERY}/delete"): Route("write", {"ids": ["none"]}),
    ("GET", f"{GALLERY}/counts"): Route("search", query="by=label"),
    ("GET", f"{GALLERY}/histogram"): Route("search"),
    ("POST", f"{GALLERY}/search"): Route("search", {"id": "north-0", "columns": ["tenant"], "k": 30}),
    ("POST", f"{GALLERY}/classify"): Route("search", {"id": "north-0"}),
    ("GET", f"{GALLERY}/duplicates"): Route("search", query="threshold=0.5"),
    ("GET", f"{GALLERY}/outliers"): Route("search"),
    ("GET", f"{GALLERY}/pick"): Route("search"),
    ("GET", f"{GALLERY}/map"): Route("search", query="columns=label,tenant"),
    ("POST", f"{GALLERY}/map"): Route("search", {}),
    ("GET", f"{GALLERY}/export"): Route("search"),
    ("POST", f"{GALLERY}/calibrate"): Route("write", {}),
    ("POST", f"{GALLERY}/maintain"): Route("write", {}),
    ("POST", f"{GALLERY}/snapshots"): Route("admin", {"path": "snapshot"}),
    ("POST", f"{GALLERY}/restore"): Route("admin", {"path": "none"}),
    ("POST", f"{GALLERY}/import"): Route("admin", {"path": "none"}),
    ("GET", "/v1/jobs"): Route("any"),
    ("GET", "/v1/jobs/{id}"): Route("job"),
    ("DELETE", "/v1/jobs/{id}"): Route("job"),
}

KEYS = {
    "reader": "search:shoes",
    "writer": "write:shoes",
    "both": "search:shoes,write:shoes",
    "all": "search:*,write:*",
    "boots": "search:boots,write:boots",
    "embedder": "embed",
    "north": 'search:shoes,write:shoes filter={"tenant": "north"}',
    "misfit": 'search:*,write:* filter={"colour": "red"}',
    "admin": "admin",
}


def bearer(key: str) -> Json:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text("bare\n" + "".join(f"{key} scopes={scopes}\n" for key, scopes in KEYS.items()))
    (folder / "root").mkdir()
    settings = {"api_keys_file": folder / "keys", "snapshot_root": folder / "root"}
    with with_galleries(tiny_bundle, folder, "guarded", **settings) as client:
        client.headers["Authorization"] = "Bearer bare"
        tenants = ["north", "south", None] * 10
        filled(
            client, "shoes", 30, fields={"tenant": "text"}, tenant=tenants, id=ids(tenants), thumbnail=[b"jpeg"] * 30
        )
        filled(client, "boots", 3)
        assert client.put("/v1/aliases/alias", json={"gallery": "shoes"}).status_code == 200
        yield client


def ids(tenants: list[Any]) -> list[str]:
    return [f"{tenant}-{number}" for number, tenant in enumerate(tenants)]


def asked(client: TestClient, key: str, method: str, path: str, name: str) -> Any:
    route = ROUTES[method, path]
    row = "none" if method == "DELETE" else "north-0"
    filled_in = re.sub(r"\{id[^}]*\}", row, path.replace("{name}", name))
    return client.request(method, f"{filled_in}?{route.query}", json=route.body, headers=bearer(key))


def told(answer: Any) -> str:
    """The code of a refusal that is about the key; empty where it was let through."""
    kinds = (401, 403, 404)
    code = answer.json()["error"]["code"] if answer.status_code in kinds else ""
    return code if code in ("invalid_api_key", "missing_scope", "unknown_gallery", "outside_filter") else ""


def test_every_route_is_in_the_table(guarded: TestClient) -> None:
    found = set()
    for route in guarded.app.routes:  # type: ignore[attr-defined]
        if isinstance(route, APIRoute) and re.match("/v1/(galleries|aliases|jobs)", route.path):
            found |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    assert found == set(ROUTES)


def expected(key: str, method: str, path: str, name: str) -> str:
    """The refusal that the key must get, by the rules of the documentation."""
    if key == "none":
        return "invalid_api_key"
    needs, scopes = ROUTES[method, path].needs, set(KEYS[key].partition(" ")[0].split(","))
    if needs == "admin":
        unknown = name == "nothing" and not path.endswith("restore")
        return "missing_scope" if "admin" not in scopes else "unknown_gallery" if unknown else ""
    by_its_own_name = (method, path) == ("PUT", GALLERY)
    real = "shoes" if name == "alias" and not by_its_own_name else name
    may = {need for need in ("search", "write") if scopes & {f"{need}:*", f"{need}:{real}"}}
    if key == "misfit" and by_its_own_name:
        return "outside_filter"
    if not may or key == "misfit" or (name == "nothing" and not by_its_own_name):
        return "unknown_gallery"
    return "" if needs in may else "missing_scope"


@pytest.mark.parametrize("key", ["none", *KEYS])
def test_what_a_key_may_do(guarded: TestClient, key: str) -> None:
    for (method, path), route in ROUTES.items():
        for name in ("shoes", "alias", "nothing"):
            if route.needs not in ("search", "write", "admin"):
                continue
            refusal = expected(key, method, path, name)
            if refusal == "" and (method, name) in (("DELETE", "shoes"), ("PUT", "nothing")):
                continue  # which would be done
            answer = asked(guarded, key, method, path, name)
            if key == "north" and told(answer) == "outside_filter":
                assert route.needs == "write", (method, path)
            else:
                assert told(answer) == refusal, (key, method, path, name, answer.text)


def test_who_may_only_write_reads_nothing_by_writing(guarded: TestClient) -> None:
    path = "/v1/galleries/shoes/images/None-2"
    said = {key: guarded.patch(path, json={"label": "a"}, headers=bearer(key)).json() for key in ("writer", "both")}
    assert said["writer"] == {"id": "None-2", "label": "a"}
    assert {"id", "label", "added_at", "fields"} <= set(said["both"])


def test_lists_name_what_a_key_may_see(guarded: TestClient) -> None:
    names = {key: ["shoes"] for key in ("reader", "writer", "both", "north")}
    names |= {"boots": ["boots"], "all": ["boots", "shoes"]}
    for key in KEYS:
        answer = guarded.get("/v1/galleries", headers=bearer(key)).json()
        assert [one["name"] for one in answer["data"]] == names.get(key, []), key
        for one in answer["data"]:
            assert one["rows"] == (10 if key == "north" else 30 if one["name"] == "shoes" else 3)
        aliases = guarded.get("/v1/aliases", headers=bearer(key)).json()["data"]
        assert (aliases != []) == (key in ("reader", "writer", "both", "all", "north"))
    assert guarded.get("/v1/galleries/shoes", headers=bearer("reader")).json()["scopes"] == ["search"]


@pytest.mark.parametrize(
    ("key", "name", "gallery", "put", "delete"),
    [
        ("all", "new", "shoes", 200, 200),
        ("all", "new", "nothing", 404, 404),
        ("all", "boots", "shoes", 409, 404),
        ("both", "new", "shoes", 404, 404),  # it may not write that name
        ("both", "alias", "shoes", 404, 404),
        ("reader", "alias", "shoes", 403, 403),
        ("boots", "alias", "shoes", 404, 404),
        ("boots", "boots", "boots", 409, 404),
        ("misfit", "new", "shoes", 404, 403),
    ],
)
def test_an_alias_needs_write_of_both_names(
    guarded: TestClient, key: str, name: str, gallery: str, put: int, delete: int
) -> None:
    answer = guarded.put(f"/v1/aliases/{name}", json={"gallery": gallery}, headers=bearer(key))
    assert answer.status_code == put, answer.text
    if put != 200:
        guarded.put(f"/v1/aliases/{name}", json={"gallery": gallery})  # for a key that may
    answer = guarded.delete(f"/v1/aliases/{name}", headers=bearer(key))
    assert answer.status_code == (404 if name == "new" and gallery == "nothing" else delete), answer.text
    assert guarded.get("/v1/galleries/shoes").json()["aliases"] in (["alias"], ["alias", "new"])
    guarded.delete("/v1/aliases/new")


def test_no_answer_to_a_tenant_holds_a_row_of_another(guarded: TestClient) -> None:
    seen = set()
    for (method, path), route in ROUTES.items():
        if route.needs != "search":
            continue
        answer = asked(guarded, "north", method, path, "shoes")
        assert answer.is_success, (method, path, answer.text)
        assert b"south-" not in answer.content, (method, path)
        assert b"None-" not in answer.content, (method, path)
        if b"north-" in answer.content:
            seen.add(path.removeprefix(GALLERY))
    assert seen >= {"/duplicates", "/outliers", "/pick", "/map", "/export", "/images", "/row", "/search", "/classify"}


def test_a_tenant_touches_nothing_whole(guarded: TestClient) -> None:
    for method, path in [("DELETE", ""), ("POST", "/calibrate"), ("POST", "/maintain")]:
        answer = guarded.request(method, f"/v1/galleries/shoes{path}", headers=bearer("north"))
        assert (answer.status_code, told(answer)) == (403, "outside_filter")
    answer = guarded.put("/v1/aliases/shoes2", json={"gallery": "shoes"}, headers=bearer("north"))
    assert answer.status_code == 404  # no write for that name


def test_jobs_are_seen_by_keys_of_their_gallery(guarded: TestClient) -> None:
    job = ended(guarded, guarded.post("/v1/galleries/shoes/maintain"), bearer("all"))
    own = ended(guarded, guarded.post("/v1/galleries/shoes/map", headers=bearer("north")), bearer("north"))
    assert own["result"]["rows"] == 10
    sees = {"reader": (1, 1), "boots": (0, 0), "embedder": (0, 0), "north": (0, 1), "admin": (1, 1), "all": (1, 1)}
    for key, expected in sees.items():
        listed = [one["id"] for one in guarded.get("/v1/jobs", headers=bearer(key)).json()["data"]]
        for one, there in zip((job, own), expected, strict=True):
            assert (one["id"] in listed) == bool(there), key
            for method in ("GET", "DELETE"):
                answer = guarded.request(method, f"/v1/jobs/{one['id']}", headers=bearer(key))
                wanted = 404 if not there else 403 if (method, key, one) == ("DELETE", "reader", job) else 200
                assert answer.status_code == wanted, (key, method)


def test_a_snapshot_lies_under_the_root_and_nowhere_else(guarded: TestClient, tmp_path: Path) -> None:
    def asking(name: str, kind: str, path: str) -> Any:
        return guarded.post(f"/v1/galleries/{name}/{kind}", json={"path": path}, headers=bearer("admin"))

    for path in ("../out", str(tmp_path), ".", "/", "a/../../x", "nul\0", "~"):
        answer = asking("shoes", "snapshots", path)
        assert path == "~" or answer.json()["error"]["code"] == "path_not_allowed", path
    done = ended(guarded, asking("shoes", "snapshots", "of/shoes"), bearer("admin"))
    assert (done["state"], done["result"]["rows"], done["progress"]) == ("done", 30, 1)
    done = ended(guarded, asking("again", "restore", "of/shoes"), bearer("admin"))
    assert (done["state"], done["result"]["rows"]) == ("done", 30)
    assert guarded.get("/v1/galleries/again", headers=bearer("all")).json()["rows"] == 30
    done = ended(guarded, asking("again", "restore", "of/shoes"), bearer("admin"))
    assert (done["state"], done["error"]["code"]) == ("failed", "gallery_exists")
    done = ended(guarded, asking("again", "import", "of/shoes"), bearer("admin"))
    assert (done["state"], done["result"]["rows"], done["result"]["failed"]) == ("done", 30, 0)
    done = ended(guarded, asking("boots", "import", "nowhere"), bearer("admin"))
    assert (done["state"], done["error"]["code"]) == ("failed", "invalid_request")

"""Keys, and a server that is gone."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.page.conftest import Watched
from tests.server.conftest import over_tcp, serving
from vssl.bundle.reading import Bundle


def test_a_key_is_typed_once_and_stays_in_the_tab(
    tiny_bundle: Bundle, tmp_path: Path, watched: Watched, fashion_folder: Path
) -> None:
    watched.forgiven = "401"
    keys = tmp_path / "keys"
    keys.write_text(
        "0123456789abcdef name=reader scopes=search:north\nfedcba9876543210 name=owner scopes=search:*,write:*\n"
    )
    settings: dict[str, Any] = {"galleries": str(tmp_path / "galleries"), "ui": True, "api_keys_file": keys}
    with (
        serving(tiny_bundle, name="page-keys", **settings, allowed_hosts="testserver") as served,
        over_tcp(served.client.app) as (host, port),
    ):
        owner = {"Authorization": "Bearer fedcba9876543210"}
        for name in ("north", "south"):
            assert served.client.put(f"/v1/galleries/{name}", json={}, headers=owner).status_code == 201
        tab = watched.goto(f"http://{host}:{port}/ui/")
        expect(tab.get_by_role("heading", name="A key is needed")).to_be_visible()
        tab.get_by_label("API key").fill("0123456789abcdef")
        tab.get_by_role("button", name="Use it").click()
        expect(tab).to_have_title("north · Ask · VSSL")  # the only one that it may see
        kept = "[sessionStorage.length, localStorage.length, document.cookie, location.href.includes('0123')]"
        assert tab.evaluate(kept) == [1, 0, "", False]
        image = (fashion_folder / "bag" / "0000.png").read_bytes()
        twice = [("images", (f"{at}.png", image, "image/png")) for at in range(2)]
        added = served.client.post("/v1/galleries/north/images", files=twice, headers=owner)
        assert added.status_code == 200, added.text
        tab.get_by_role("link", name="Curate").click()  # what a key without the scope may not do is not offered
        expect(tab.locator(".group .pick")).to_have_count(2)
        expect(tab.get_by_role("button", name=re.compile("Delete"))).to_have_count(0)
        expect(tab.get_by_role("radio")).to_have_count(0)
        tab.get_by_role("tab", name="Label next").click()
        expect(tab.get_by_text("labels need the scope write")).to_be_visible()
        expect(tab.get_by_role("button", name=re.compile("Undo|Save"))).to_have_count(0)


def test_a_server_that_is_gone_is_said_and_asked_again(tiny_bundle: Bundle, tmp_path: Path, watched: Watched) -> None:
    watched.forgiven = "ERR_CONNECTION|Failed to load"
    settings: dict[str, Any] = {"galleries": str(tmp_path / "galleries"), "ui": True}
    with serving(tiny_bundle, name="page-dead", **settings) as served:
        with over_tcp(served.client.app) as (host, port):
            tab = watched.goto(f"http://{host}:{port}/ui/")
            expect(tab.get_by_role("heading", name="No gallery yet")).to_be_visible()
            tab.evaluate("document.body.dataset.same = 'page'")
        tab.evaluate("dispatchEvent(new Event('vssl-key'))")  # the page asks for its galleries once more
        expect(tab.get_by_role("heading", name="Nobody answers")).to_be_visible()
        tab.get_by_role("button", name="Try again").click()
        expect(tab.get_by_role("heading", name="Nobody answers")).to_be_visible()

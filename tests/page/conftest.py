"""The page in a real browser, against a real server with galleries of real images."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import over_tcp, serving
from tests.server.http.galleries.conftest import ended
from vssl.bundle.reading import Bundle

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""As root; and WebGL2 without a graphics card."""

PATIENCE_MS = 30_000
"""How long a test waits for what it expects: a slow machine is no fault of the page."""

HOSTILE = "<img src=x onerror=alert(1)>'\"&.png"
AT_ONCE = """async (keys) => {
  for (const key of keys) {
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    for (let turn = 0; turn < 9; turn++) await null; // the page has drawn; no frame has been shown
  }
}"""
"""Presses keys one after the other, as a script of the page."""

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.page)


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Debian's Chromium. Without it tests are skipped, or fail where VSSL_TEST_REQUIRE names it.

    It ends with the tests of this folder: as long as it runs, Playwright keeps an event loop in the main thread, and
    no other can be run there.
    """
    missing = pytest.fail if "chromium" in os.environ.get("VSSL_TEST_REQUIRE", "") else pytest.skip
    if not CHROMIUM.exists():
        missing(f"there is no {CHROMIUM}: apt-get install chromium")
    try:
        from playwright.sync_api import expect, sync_playwright
    except ModuleNotFoundError:
        missing("playwright is not installed: pip install playwright axe-playwright-python")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Site:
    """A running server: its address, and a client that asks it without a browser."""

    url: str
    client: TestClient

    def page(self, place: str = "") -> str:
        """The address of a place of the page."""
        return f"{self.url}/ui/#/{place}"


@pytest.fixture(scope="session")
def site(calibrated_bundle: Bundle, fashion_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`clothes`: 40 labelled images and one with a hostile name, calibrated; `empty`: none."""
    folder = str(tmp_path_factory.mktemp("page") / "galleries")
    with (
        serving(calibrated_bundle, name="page", galleries=folder, allowed_hosts="testserver", ui=True) as served,
        over_tcp(served.client.app) as (host, port),
    ):
        client = served.client
        client.put("/v1/galleries/clothes", json={"fields": {"shop": "text", "year": "integer"}})
        client.put("/v1/galleries/empty", json={})
        add(client, "clothes", sorted(fashion_folder.rglob("*.png")))
        ended(client, client.post("/v1/galleries/clothes/calibrate"))
        yield Site(f"http://{host}:{port}", client)


def add(client: TestClient, gallery: str, files: list[Path]) -> None:
    """Images with their folder as label; the last once more under a hostile name, with markup in all that it has."""
    rows = [
        {
            "id": f"{file.parent.name}/{file.name}",
            "label": file.parent.name,
            "fields": {"shop": "east", "year": 2000 + at},
        }
        for at, file in enumerate(files)
    ]
    rows.append(
        {"id": HOSTILE, "fields": {"shop": "<b>west</b>"}, "meta": {"<i>note</i>": "<script>alert(2)</script>"}}
    )
    parts = [("images", (file.name, file.read_bytes(), "image/png")) for file in [*files, files[-1]]]
    answer = client.post(
        f"/v1/galleries/{gallery}/images", files=[*parts, ("rows", (None, json.dumps(rows), "application/json"))]
    )
    assert answer.status_code == 200, answer.text


@dataclass
class Watched:
    """A tab, and what it did: each address that it asked for, what it complained about, dialogs that it opened."""

    tab: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    forgiven: str | None = None
    """A pattern of complaints that a test brings about."""

    def dialog(self, dialog: Any) -> None:
        """No part of the page opens one: something foreign has run."""
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def goto(self, url: str) -> Any:
        """Open the place, also if only what is behind the # differs."""
        self.tab.goto("about:blank")
        self.tab.goto(url)
        return self.tab

    def leave(self) -> None:
        """Close all tabs, before what they still ask for goes away: an answer of 404 would be a complaint."""
        self.tab.context.close()


@pytest.fixture
def watched(browser: Any, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A tab of its own. Afterwards: it asked nobody but the server, ran nothing foreign, and complained of nothing."""
    options = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options})
    watched = Watched(context.new_page())
    watched.tab.set_default_timeout(PATIENCE_MS)
    watched.tab.on("request", lambda one: watched.requests.append(one.url))
    watched.tab.on("pageerror", lambda error: watched.complaints.append(str(error)))
    watched.tab.on("console", lambda one: watched.complaints.append(one.text) if one.type == "error" else None)
    watched.tab.on("dialog", watched.dialog)
    yield watched
    watched.leave()
    elsewhere = [url for url in watched.requests if not re.match(r"(http://127\.0\.0\.1:|blob:|data:|about:)", url)]
    assert elsewhere == []
    forgiven = watched.forgiven
    assert [one for one in watched.complaints if forgiven is None or not re.search(forgiven, one)] == []

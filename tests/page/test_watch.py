"""Drift of a gallery, and the server's own numbers."""

import re

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Site, Watched


def test_flags_are_counted_as_the_store_counts_them(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/watch"))
    expect(tab.get_by_text("41 images: too few to say")).to_have_count(2)
    counts = site.client.get("/v1/galleries/clothes/counts?by=degraded").json()["data"]
    degraded = next((one["rows"] for one in counts if one["value"]), 0)
    share = float(tab.get_by_role("row", name="degraded").get_by_role("cell").first.inner_text().removesuffix(" %"))
    assert share == pytest.approx(100 * degraded / 41, abs=0.05)


def test_the_server_is_watched_live(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/watch"))
    tile = tab.locator(".tile").filter(has_text="Requests a second")
    expect(tile.locator("strong")).to_have_text(re.compile(r"\d"))
    refused = site.client.post("/v1/galleries/clothes/search", json={"k": -1}).json()["error"]["code"]
    expect(tab.get_by_role("row", name=refused)).to_be_visible()


def test_metrics_that_are_elsewhere_are_said_to_be(site: Site, watched: Watched) -> None:
    watched.forgiven = "404"
    watched.tab.route("**/metrics", lambda route: route.fulfill(status=404))
    tab = watched.goto(site.page("clothes/watch"))
    expect(tab.get_by_text("on a port of their own")).to_be_visible()


def test_without_images_there_is_nothing_to_compare(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("empty/watch"))
    expect(tab.get_by_text("Flags")).to_be_visible()

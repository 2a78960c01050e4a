"""A tab that is used for long takes no more memory than one that was used a little."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Site, Watched
from tests.page.test_ask import DROP, noise

MOST = 3_000_000
"""Bytes of JavaScript's heap that 160 actions may add: caches of code, and the hour of metrics."""


def act(site: Site, tab: Any, turn: int) -> None:
    """One of five things that people do, in turn."""
    view = ("ask", "look", "map", "curate", "watch")[turn % 5]
    tab.goto(site.page(f"clothes/{view}"))
    if view == "ask":
        expect(tab.get_by_text("Drop an image")).to_be_visible()
        tab.evaluate(DROP, [".ask", f"{turn}.png", list(noise())])
        expect(tab.get_by_role("heading", name="Nearest in clothes").first).to_be_visible()
    elif view == "look":
        tab.locator("main img").first.wait_for()
    elif view == "map":
        tab.locator("canvas").focus()
        for key in ("+", "ArrowLeft", "v", "0"):
            tab.keyboard.press(key)
        expect(tab.locator(".chosen")).to_be_visible()
    elif view == "curate":
        tab.get_by_role("tab", name="Odd ones").click()
        tab.locator(".pick").first.click()
    else:
        expect(tab.get_by_text("Requests a second")).to_be_visible()


def heap(session: Any) -> int:
    """Bytes that live objects take."""
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    used = {one["name"]: one["value"] for one in metrics}
    return int(used["JSHeapUsedSize"])


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("warm", "actions"), [(10, 30), pytest.param(40, 200, marks=pytest.mark.slow)])
def test_memory_is_flat_over_many_actions(site: Site, watched: Watched, warm: int, actions: int) -> None:
    # One document all the while: an address that differs behind the # alone loads nothing anew.
    watched.tab.goto(site.page("clothes/ask"))
    session = watched.tab.context.new_cdp_session(watched.tab)
    session.send("Performance.enable")
    for turn in range(warm):
        act(site, watched.tab, turn)
    before = heap(session)
    for turn in range(warm, actions):
        act(site, watched.tab, turn)
    assert heap(session) - before < MOST

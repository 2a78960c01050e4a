"""The map: points that one can see, choose and take elsewhere."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from tests.page.conftest import HOSTILE, Site, Watched


def drawn(tab: Any) -> int:
    """How many pixels of the canvas are in a colour: neither grey nor white."""
    picture = Image.open(io.BytesIO(tab.locator("canvas").screenshot())).convert("HSV")
    return sum(picture.getchannel("S").histogram()[80:])


def opened(site: Site, watched: Watched) -> Any:
    tab = watched.goto(site.page("clothes/map"))
    expect(tab.locator("canvas")).to_be_visible()
    return tab


def around(tab: Any, left: float, top: float, right: float, bottom: float) -> None:
    """Draw a line around a part of the canvas, in shares of it."""
    box = tab.locator("canvas").bounding_box()
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=4)
    tab.mouse.up()


def test_a_lasso_makes_a_filter_of_look(site: Site, watched: Watched) -> None:
    tab = opened(site, watched)
    tab.get_by_role("button", name="Lasso").click()
    around(tab, 0.01, 0.01, 0.99, 0.85)
    chosen = int(tab.locator(".chosen p").inner_text().split()[0])
    assert 0 < chosen <= 41
    tab.get_by_role("button", name="Look at them").click()
    expect(tab.get_by_text("chosen on the map")).to_be_visible()
    expect(tab.get_by_role("status").get_by_text(f"{chosen} image")).to_be_visible()


def test_what_is_in_view_is_chosen_by_keyboard_and_saved(site: Site, watched: Watched) -> None:
    tab = opened(site, watched)
    tab.locator("canvas").focus()
    tab.keyboard.press("v")
    expect(tab.get_by_text("41 images chosen.")).to_be_visible()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save as CSV").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows} == {row["id"] for row in stored(site)}
    assert {row["label"] for row in rows if row["id"] != HOSTILE} == {"bag", "coat"}
    tab.locator("canvas").focus()
    for _ in range(6):
        tab.keyboard.press("+")
    tab.keyboard.press("v")
    expect(tab.get_by_text("41 images chosen.")).not_to_be_visible()


def test_a_legend_entry_chooses_its_rows_and_columns_can_be_other_fields(site: Site, watched: Watched) -> None:
    tab = opened(site, watched)
    tab.get_by_role("button", name="coat").click()
    expect(tab.get_by_text("20 images chosen.")).to_be_visible()
    tab.get_by_label("Colour by").select_option("shop")
    expect(tab.get_by_role("button", name="<b>west</b>")).to_be_visible()
    tab.get_by_label("Colour by").select_option("year")
    expect(tab.locator(".ramp-ends")).to_contain_text("2,0")


def test_pointing_shows_the_image_and_enter_opens_it(site: Site, watched: Watched) -> None:
    tab = opened(site, watched)
    assert drawn(tab) > 100
    box = tab.locator("canvas").bounding_box()
    card = tab.locator(".map-card")
    for step in range(400):  # over the whole map in rows, until a point is under the pointer
        x, y = step % 20 / 20, step // 20 / 20
        tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if card.count():
            break
    expect(card.locator("img")).to_be_visible()
    tab.locator("canvas").focus()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("dialog")).to_be_visible()


def test_the_map_by_neighbours_takes_its_place(site: Site, watched: Watched) -> None:
    pytest.importorskip("openTSNE")
    tab = opened(site, watched)
    tab.get_by_role("button", name="Place by neighbours").click()
    expect(tab.get_by_text("Placed by neighbours (t-SNE)")).to_be_visible(timeout=60_000)
    assert drawn(tab) > 100


def test_without_webgl_there_is_a_table(site: Site, watched: Watched) -> None:
    script = "HTMLCanvasElement.prototype.getContext = () => null"
    watched.tab.add_init_script(script)
    tab = watched.goto(site.page("clothes/map"))
    expect(tab.get_by_text("can't draw the map")).to_be_visible()
    expect(tab.get_by_role("row")).to_have_count(42)
    expect(tab.get_by_role("rowheader", name=HOSTILE, exact=True)).to_be_visible()


def test_the_map_can_be_used_by_everybody(site: Site, watched: Watched) -> None:
    tab = opened(site, watched)
    tab.locator("canvas").focus()
    tab.keyboard.press("v")
    assert Axe().run(tab).response["violations"] == []


def stored(site: Site) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = site.client.get("/v1/galleries/clothes/images?limit=100").json()["data"]
    return rows

"""Look: filters with counts, one image with its neighbours, names and metadata that are markup."""

import io
import re

import numpy as np
import pyarrow as pa
from playwright.sync_api import expect
from starlette.testclient import TestClient

from tests.page.conftest import AT_ONCE, HOSTILE, Site, Watched

ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


def test_a_filter_counts_and_leaves_what_the_store_has(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/look"))
    expect(tab.get_by_text("41 images", exact=True)).to_be_visible()
    tab.get_by_role("checkbox", name="bag").check()
    expect(tab.get_by_text("20 images", exact=True)).to_be_visible()
    expect(tab.get_by_role("gridcell")).to_have_count(20)
    tab.reload()  # the address holds the filter
    expect(tab.get_by_text("20 images", exact=True)).to_be_visible()


def test_names_and_metadata_that_are_markup_are_shown_as_text(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/look"))
    tab.get_by_role("button", name=HOSTILE).click()
    detail = tab.get_by_role("dialog")
    expect(detail.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(detail.get_by_text("<b>west</b>")).to_be_visible()
    expect(detail.get_by_text("<script>alert(2)</script>")).to_be_visible()
    assert tab.locator("img[src='x'], dialog b, dialog i:not([style])").count() == 0


def test_by_keyboard_to_an_image_and_back(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/look"))
    tab.locator("[data-at='0']").focus()
    tab.keyboard.press("ArrowRight")
    expect(tab.locator("[data-at='1']")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("dialog").locator(".neighbours li")).to_have_count(12)
    before = tab.locator("#detail-title").inner_text()
    tab.keyboard.press("ArrowRight")
    expect(tab.locator("#detail-title")).not_to_have_text(before)
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("dialog")).to_have_count(0)


def test_keys_that_come_faster_than_frames_move_as_far(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/look"))
    tab.locator("[data-at='0']").focus()
    tab.evaluate(AT_ONCE, ["ArrowRight"] * 3)
    expect(tab.locator("[data-at='3']")).to_be_focused()


def test_focus_stays_where_columns_become_fewer(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/look"))
    tab.locator("[data-at='9']").focus()
    for width in (700, 1280):
        tab.set_viewport_size({"width": width, "height": 800})
        expect(tab.get_by_role("grid")).to_have_attribute(
            "aria-colcount", re.compile("[234]" if width == 700 else "[567]")
        )
        expect(tab.locator("[data-at='9']")).to_be_focused()


def fill(client: TestClient, gallery: str, rows: int) -> None:
    """Rows that are embedded already: their names are numbers, and none has a picture."""
    client.put(f"/v1/galleries/{gallery}", json={})
    dimension = client.get(f"/v1/galleries/{gallery}").json()["dimension"]
    vectors = np.random.default_rng(0).normal(size=(rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"{number:07}" for number in range(rows)]
    for start in range(0, rows, 5000):
        part = slice(start, start + 5000)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors[part].ravel()), dimension)
        table = pa.table({"id": names[part], "embedding": column})
        body = io.BytesIO()
        with pa.ipc.new_stream(body, table.schema) as writer:
            writer.write_table(table)
        sent = client.post(f"/v1/galleries/{gallery}/rows", content=body.getvalue(), headers=ARROW)
        assert sent.status_code == 200, sent.text


def test_a_wall_of_100_000_is_scrolled_to_any_place_at_once(site: Site, watched: Watched) -> None:
    watched.forgiven = "404"  # no picture
    gallery, rows = "long", 100_000
    fill(site.client, gallery, rows)
    tab = watched.goto(site.page(f"{gallery}/look?sort=id"))
    wall = tab.locator(".wall")
    expect(tab.get_by_text(f"{rows:,} images", exact=True)).to_be_visible()
    expect(tab.get_by_role("button", name="0000000")).to_be_visible()
    tab.locator("[data-at='0']").focus()
    tab.keyboard.press("End")
    expect(tab.get_by_role("button", name=f"{rows - 1:07}")).to_be_focused()
    wall.evaluate("e => { e.scrollTop = e.scrollHeight / 2 }")
    expect(tab.get_by_role("button", name=f"{rows // 2:07}")).to_be_visible()
    assert tab.get_by_role("gridcell").count() < 120
    asked = [url for url in watched.requests if f"{gallery}/images" in url]
    assert len(asked) <= 12  # the start, the end and the middle, and not what lies between
    tab.keyboard.press("Home")
    wall.evaluate("e => { e.scrollTop = 0 }")
    expect(tab.get_by_role("button", name="0000000")).to_be_visible()


def test_what_one_tab_writes_another_shows_when_it_is_looked_at_again(site: Site, watched: Watched) -> None:
    watched.forgiven = "404"  # no picture
    fill(site.client, "shared", 30)
    tab = watched.goto(site.page("shared/look?sort=id"))
    other = watched.tab.context.new_page()
    other.goto(site.page("shared/curate?tab=odd"))
    other.locator(".pick").first.focus()
    other.keyboard.press("Space")
    other.keyboard.type("glove")
    other.keyboard.press("Enter")
    expect(other.locator(".pick", has_text="glove")).to_have_count(1)
    expect(tab.get_by_role("gridcell").filter(has_text="glove")).to_have_count(0)
    tab.evaluate("dispatchEvent(new Event('focus'))")
    expect(tab.get_by_role("gridcell").filter(has_text="glove")).to_have_count(1)

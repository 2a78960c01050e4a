"""Look: filters with counts, one image with its neighbours, names and metadata that are markup."""

from playwright.sync_api import expect

from tests.page.conftest import HOSTILE, Site, Watched


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

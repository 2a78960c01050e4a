"""Labels by keyboard, duplicates deleted, undo; what is written is in the store."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.page.conftest import AT_ONCE, HOSTILE, Site, Watched, add

TABS = ("Duplicates", "Label next", "Odd ones", "Chosen on the map")


@pytest.fixture
def shelf(site: Site, watched: Watched, fashion_folder: Path) -> Iterator[str]:
    """A gallery of eight images, and one of them again, without a label, under a hostile name."""
    files = sorted(fashion_folder.rglob("*.png"))
    site.client.put("/v1/galleries/shelf", json={"fields": {"shop": "text", "year": "integer"}})
    add(site.client, "shelf", [*files[:4], *files[-4:]])
    yield "shelf"
    watched.leave()
    site.client.delete("/v1/galleries/shelf")


def labels(site: Site) -> dict[str, str | None]:
    rows = site.client.get("/v1/galleries/shelf/images?columns=id,label").json()["data"]
    return {row["id"]: row["label"] for row in rows}


def odd_ones(site: Site, watched: Watched) -> Any:
    tab = watched.goto(site.page("shelf/curate?tab=odd"))
    expect(tab.locator(".pick")).to_have_count(9)
    return tab


def focused(tab: Any) -> str:
    text: str = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    return text.split(",")[0]


def until_it_moved(tab: Any, before: str) -> None:
    """The page draws in its own time: until then the focus is where it was."""
    tab.wait_for_function("id => !document.activeElement.getAttribute('aria-label')?.startsWith(id)", arg=f"{before},")


def test_labels_are_set_by_keyboard_and_undone(site: Site, watched: Watched, shelf: str) -> None:
    before = labels(site)
    tab = odd_ones(site, watched)
    tab.locator(".pick").first.focus()
    tab.keyboard.press("Space")
    first = focused(tab)
    tab.keyboard.press("ArrowRight")
    until_it_moved(tab, first)
    tab.keyboard.press("Space")
    second = focused(tab)
    tab.keyboard.type("hat")
    expect(tab.get_by_label("Label 2 images", exact=False).first).to_be_visible()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("button", name="Undo “hat” on 2 images")).to_be_enabled()
    expect(tab.locator(".pick", has_text="hat")).to_have_count(2)
    assert labels(site) == before | {first: "hat", second: "hat"}
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save 2 changed labels as CSV").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"]: row["label_before"] or None for row in rows} == {id: before[id] for id in (first, second)}
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save 2 changed labels as Parquet").click()
    assert download.value.suggested_filename == "shelf-labels.parquet"
    table = pq.read_table(download.value.path())
    assert table.to_pylist() == [
        {"id": id, "label": "hat", "label_before": before[id]} for id in sorted((first, second))
    ]
    tab.locator(".pick").first.focus()
    tab.keyboard.press("Control+z")
    expect(tab.locator(".pick", has_text="hat")).to_have_count(0)
    assert labels(site) == before


def test_keys_that_come_faster_than_frames_are_all_heard(site: Site, watched: Watched, shelf: str) -> None:
    tab = odd_ones(site, watched)
    tab.locator(".pick").first.focus()
    tab.evaluate(AT_ONCE, [" ", "ArrowRight", "ArrowRight", " ", "ArrowRight"])
    expect(tab.locator(".pick").nth(3)).to_be_focused()
    chosen = [tab.locator(".pick").nth(at).get_attribute("aria-selected") for at in range(4)]
    assert chosen == ["true", "false", "true", "false"]


def test_a_typed_label_goes_on_to_the_next(site: Site, watched: Watched, shelf: str) -> None:
    tab = odd_ones(site, watched)
    tab.locator(".pick").first.focus()
    tab.keyboard.type("scarf")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("button", name="Undo “scarf” on 1 image")).to_be_enabled()
    expect(tab.locator(".pick").nth(1)).to_be_focused()
    tab.keyboard.type("x")
    tab.keyboard.press("Escape")
    expect(tab.locator(".pick").nth(1)).to_be_focused()


def test_a_digit_labels_what_is_in_focus_and_goes_on(site: Site, watched: Watched, shelf: str) -> None:
    tab = odd_ones(site, watched)
    tab.locator(".pick").first.focus()
    first = focused(tab)
    label = tab.locator(".digits button").nth(0).inner_text().split()[-1]
    tab.keyboard.press("1")
    expect(tab.get_by_role("button", name=f"Undo “{label}” on 1 image")).to_be_enabled()
    assert labels(site)[first] == label
    until_it_moved(tab, first)
    tab.keyboard.press("Delete")
    expect(tab.get_by_role("button", name="Undo no label on 1 image")).to_be_enabled()


def test_two_tabs_see_what_the_other_wrote(site: Site, watched: Watched, shelf: str) -> None:
    tab = odd_ones(site, watched)
    other = tab.context.new_page()
    other.goto(site.page("shelf/curate?tab=odd"))
    expect(other.locator(".pick")).to_have_count(9)
    tab.locator(".pick").first.focus()
    first = focused(tab)
    tab.keyboard.type("boot")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("button", name="Undo “boot” on 1 image")).to_be_enabled()
    other.locator(".pick").last.focus()
    other.keyboard.press("Delete")
    expect(other.get_by_role("button", name="Undo no label on 1 image")).to_be_enabled()
    expect(other.locator(".pick", has_text="boot")).to_have_count(1)
    assert labels(site)[first] == "boot"


def test_the_others_of_a_group_are_deleted_after_a_dry_run(site: Site, watched: Watched, shelf: str) -> None:
    tab = watched.goto(site.page("shelf/curate"))
    tab.get_by_label("Alike from").fill("0.999")
    with tab.expect_response(re.compile(r"duplicates\?threshold=0\.999")) as answer:
        tab.get_by_role("button", name="Find").click()
    found = [[one["kept"], *one["others"]] for one in answer.value.json()["data"]]
    alike = next(len(ids) for ids in found if HOSTILE in ids)
    group = tab.locator(".group").filter(has_text=HOSTILE)
    expect(group.locator(".pick")).to_have_count(alike)
    group.get_by_role("radio", name="keep").nth(0).check()
    kept = group.locator(".kept .pick-id").inner_text()
    group.get_by_role("button", name="Delete the other").click()
    expect(tab.get_by_role("dialog").get_by_role("status")).to_have_text(
        re.compile(f"{alike - 1} images? will be deleted")
    )
    assert len(labels(site)) == 9
    tab.get_by_role("dialog").get_by_role("button", name="Keep all").click()
    assert len(labels(site)) == 9
    group.get_by_role("button", name="Delete the other").click()
    tab.get_by_role("dialog").get_by_role("button", name="Delete ").click()
    expect(tab.get_by_role("dialog")).to_have_count(0)
    expect(group).to_have_count(0)
    assert len(labels(site)) == 9 - (alike - 1)
    assert kept in labels(site)


def test_curating_can_be_done_by_everybody(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("clothes/curate"))
    for name in TABS:
        tab.get_by_role("tab", name=name).click()
        expect(tab.get_by_text("Loading")).to_have_count(0)
        assert Axe().run(tab).response["violations"] == [], name


def test_an_empty_gallery_has_nothing_to_curate(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("empty/curate"))
    expect(tab.get_by_text("No two images")).to_be_visible()
    for name, text in (("Label next", "Every image has a label"), ("Odd ones", "No image is far")):
        tab.get_by_role("tab", name=name).click()
        expect(tab.get_by_text(text)).to_be_visible()

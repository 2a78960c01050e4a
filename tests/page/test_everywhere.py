"""Each view, light and dark: no violation that axe-core finds, and no wider than a telephone."""

from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.page.conftest import Site, Watched

PLACES = ["", "clothes/ask", "clothes/look", "clothes/map", "clothes/curate", "clothes/watch", "empty/look", "none/ask"]


def shown(watched: Watched, url: str) -> Any:
    tab = watched.goto(url)
    tab.wait_for_load_state("networkidle")
    tab.locator(".loading").first.wait_for(state="detached")
    return tab


@pytest.mark.parametrize("watched", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True, ids=str)
def test_no_view_has_a_violation_of_accessibility(site: Site, watched: Watched) -> None:
    watched.forgiven = "404"  # the picture of an image that has none
    ids = [quote(row["id"], safe="") for row in site.client.get("/v1/galleries/clothes/images?limit=1").json()["data"]]
    found = {}
    for place in [*PLACES, f"clothes/look?open={ids[0]}", f"clothes/ask?id={ids[0]}"]:
        tab = shown(watched, site.page(place))
        violations = Axe().run(tab).response["violations"]
        if violations:
            found[place] = [(one["id"], [node["html"][:150] for node in one["nodes"]][:3]) for one in violations]
    assert found == {}


@pytest.mark.parametrize(
    "watched",
    [{"viewport": {"width": width, "height": height}} for width, height in ((400, 800), (3840, 2160))],
    indirect=True,
    ids=["telephone", "4K"],
)
def test_every_view_fits(site: Site, watched: Watched) -> None:
    watched.forgiven = "404"  # the picture of an image that has none
    width = watched.tab.viewport_size["width"]
    for place in PLACES:
        tab = shown(watched, site.page(place))
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, place
    tab = shown(watched, site.page("clothes/look"))
    first, second = (tab.get_by_role("gridcell").nth(at).bounding_box() for at in (0, 1))
    in_a_row = width // (second["x"] - first["x"] or width)
    assert in_a_row == (2 if width == 400 else pytest.approx(20, abs=8))  # what is wide is used

"""What surrounds the views: the first load, galleries, and where one is."""

from urllib.parse import quote

from playwright.sync_api import expect

from tests.page.conftest import Site, Watched

LARGEST_FIRST_LOAD = 60_000


def test_the_first_load_is_small_and_all_of_it_comes_from_the_server(site: Site, watched: Watched) -> None:
    loaded: dict[str, int] = {}
    watched.tab.on("response", lambda one: loaded.update({one.url: int(one.headers.get("content-length", 0))}))
    tab = watched.goto(site.page("empty/ask"))
    expect(tab.get_by_text("Drop an image")).to_be_visible()
    files = {url: size for url, size in loaded.items() if "/ui/" in url}
    assert any(url.endswith("preact.js") for url in files)
    assert all(url.startswith(site.url) for url in loaded if not url.startswith("about:"))
    assert sum(files.values()) <= LARGEST_FIRST_LOAD, files


def test_several_galleries_stand_side_by_side(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page())
    tab.get_by_role("link", name="clothes").click()
    expect(tab).to_have_title("clothes · Ask · VSSL")
    tab.get_by_label("Gallery").select_option("empty")
    expect(tab).to_have_title("empty · Ask · VSSL")
    tab.go_back()
    expect(tab).to_have_title("clothes · Ask · VSSL")


def test_two_keys_go_to_a_view(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page("empty/ask"))
    expect(tab.get_by_text("Drop an image")).to_be_visible()
    tab.keyboard.type("gl")
    expect(tab.get_by_role("heading", name="Nothing here yet")).to_be_visible()
    tab.keyboard.type("?")
    expect(tab.get_by_role("heading", name="Keys")).to_be_visible()


def test_a_gallery_that_is_not_there_is_said_as_text(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page(quote("<img src=x onerror=alert(1)>", safe="")))
    expect(tab.get_by_text("no gallery <img src=x onerror=alert(1)>")).to_be_visible()

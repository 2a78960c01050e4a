"""An image that is dropped or chosen, and what the page says of it."""

import io
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageFilter
from playwright.sync_api import expect

from tests.page.conftest import HOSTILE, Site, Watched
from tests.server.conftest import over_tcp, serving
from vssl.bundle.reading import open_bundle

DROP = """([place, name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  for (const kind of ["dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector(place).dispatchEvent(event);
  }
}"""

PASTE = """([name, bytes]) => {
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""
CLOTHES = Path(__file__).parents[2] / "demo" / "clothes.zip"


def noise() -> bytes:
    """No picture of clothes: the model is more uncertain about it than about any reference image."""
    file = io.BytesIO()
    Image.effect_noise((64, 48), 200).save(file, "PNG")
    return file.getvalue()


def ask(site: Site, watched: Watched, gallery: str = "clothes") -> Any:
    tab = watched.goto(site.page(f"{gallery}/ask"))
    expect(tab.get_by_text("Drop an image")).to_be_visible()
    return tab


def test_a_degraded_image_that_is_dropped_gets_its_flag(site: Site, watched: Watched) -> None:
    tab = ask(site, watched)
    bad = noise()
    tab.evaluate(DROP, [".ask", HOSTILE, list(bad)])
    expect(tab.get_by_role("heading", name="Nearest in clothes")).to_be_visible()
    expect(tab.get_by_role("article").get_by_text(HOSTILE)).to_be_visible()
    answer = site.client.post(
        "/v1/galleries/clothes/search?k=1", content=bad, headers={"Content-Type": "image/png"}
    ).json()["data"][0]
    for flag, words in (("degraded", "degraded"), ("ood", "out of distribution")):
        shown = tab.locator(".flags").get_by_text(words, exact=True)
        expect(shown).to_have_count(int(answer["query"]["flags"][flag]))
    assert any(answer["query"]["flags"].values())
    expect(tab.get_by_text("inference")).to_be_visible()
    said = site.client.post(
        "/v1/galleries/clothes/classify", content=bad, headers={"Content-Type": "image/png"}
    ).json()["data"][0]
    expect(tab.locator(".verdict .badge")).to_have_text(said["action"])
    tab.get_by_text("The request", exact=True).click()
    told = tab.locator("details pre").inner_text()
    assert told.splitlines()[0].startswith("curl -X POST 'http://127.0.0.1:")
    assert "clothes/classify" in told
    assert "-H 'Content-Type: image/png'" in told


def test_an_image_that_is_pasted_is_asked(site: Site, watched: Watched) -> None:
    tab = ask(site, watched)
    tab.evaluate(PASTE, ["pasted.png", list(noise())])
    expect(tab.get_by_role("article", name="pasted.png").locator(".neighbours li")).to_have_count(12)


def photographs() -> tuple[bytes, bytes]:
    """A photograph, and the same out of focus."""
    with zipfile.ZipFile(CLOTHES) as archive:
        sharp = archive.read(next(name for name in archive.namelist() if name.startswith("gallery/Hat/")))
    file = io.BytesIO()
    Image.open(io.BytesIO(sharp)).filter(ImageFilter.GaussianBlur(8)).save(file, "PNG")
    return sharp, file.getvalue()


def test_what_a_degraded_photograph_looks_like_is_said_where_it_is_known(watched: Watched, tmp_path: Path) -> None:
    watched.forgiven = "404"  # no thumbnail
    default, folder = open_bundle("builtin:default"), str(tmp_path / "galleries")
    with (
        serving(default, name="page-kinds", galleries=folder, allowed_hosts="testserver", ui=True) as served,
        over_tcp(served.client.app) as (host, port),
    ):
        sharp, blurred = photographs()
        served.client.put("/v1/galleries/hats", json={})
        png = {"Content-Type": "image/png"}
        for data in (sharp, blurred):
            said = served.client.post("/v1/galleries/hats/search", content=data, headers=png).json()["data"][0]
            tab = watched.goto(f"http://{host}:{port}/ui/#/hats/ask")
            expect(tab.get_by_text("Drop an image")).to_be_visible()
            tab.evaluate(DROP, [".ask", "hat.png", list(data)])
            expect(tab.get_by_role("article").get_by_text("inference")).to_be_visible()
            kind = said["query"]["resembles"]
            assert (kind is None) == (data is sharp)
            expect(tab.locator(".flags").get_by_text("It looks")).to_have_count(int(kind is not None))
    assert kind["kind"] == "blur"
    assert kind["accuracy"] >= 0.7
    expect(tab.locator(".flags")).to_contain_text("It looks blurred; such a guess is right for")


def test_several_are_asked_and_a_file_that_is_none_says_so(site: Site, watched: Watched, fashion_folder: Path) -> None:
    watched.forgiven = "400|422|415"
    tab = ask(site, watched)
    good = sorted(fashion_folder.rglob("*.png"))[0]
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    tab.locator("input[type=file]").set_input_files([good])
    expect(tab.get_by_role("heading", name="Nearest in clothes")).to_be_visible()
    tab.locator("input[type=file]").set_input_files([broken])
    expect(tab.get_by_role("article", name="broken.png").get_by_role("alert")).to_be_visible()
    words = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"words"}
    tab.locator("input[type=file]").set_input_files([words])
    expect(tab.get_by_role("article", name="notes.txt").get_by_role("alert")).to_be_visible()
    expect(tab.get_by_role("article")).to_have_count(3)


def test_a_part_is_asked_by_keyboard(site: Site, watched: Watched) -> None:
    tab = ask(site, watched)
    tab.evaluate(DROP, [".ask", "part.png", list(noise())])
    expect(tab.get_by_role("heading", name="Nearest in clothes")).to_be_visible()
    tab.get_by_role("button", name="Ask about a part").click()
    tab.locator(".crop-box").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Shift+ArrowDown")
    with tab.expect_request("**/search") as asked:
        tab.keyboard.press("Enter")
    left, top, right, bottom = asked.value.post_data_json["crop"]
    # .2, .2, .8, .8 of 64 × 48; a step of .02 to the right, then one down of the lower edge alone.
    assert (left, top, right, bottom) == (14, 10, 52, 39)
    expect(tab.get_by_role("heading", name="Nearest in clothes")).to_be_visible()


def test_an_image_of_the_gallery_has_an_address(site: Site, watched: Watched) -> None:
    tab = watched.goto(site.page(f"clothes/ask?id={quote(HOSTILE)}"))
    expect(tab.get_by_role("article", name=HOSTILE, exact=True)).to_be_visible()
    expect(tab.get_by_role("heading", name="Nearest in clothes")).to_be_visible()
    expect(tab.locator(".neighbours li")).to_have_count(12)
    tab.locator(".neighbours").get_by_role("link").first.click()
    expect(tab.get_by_role("article")).to_have_count(2)


def test_everybody_can_ask(site: Site, watched: Watched) -> None:
    tab = ask(site, watched)
    assert Axe().run(tab).response["violations"] == []
    tab.evaluate(DROP, [".ask", "part.png", list(noise())])
    expect(tab.get_by_role("heading", name="Nearest in clothes")).to_be_visible()
    tab.get_by_role("button", name="Ask about a part").click()
    assert Axe().run(tab).response["violations"] == []

"""Draws the page's pictures for these docs: `python docs/site_page_images.py`, from the root of the tree.

Each view, light and dark, on the demo's photographs of clothes by the default model: into `docs/images`. Needs what
`make setup` installs, and a Chromium.
"""

import argparse
import io
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image, ImageFilter
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import SOFTWARE, WINDOW, hang_demo  # noqa: E402
from benchmarks.served import VSSL, listening  # noqa: E402

ARCHIVE = ROOT / "demo" / "clothes.zip"
OUT = ROOT / "docs" / "images"
MOST = 150_000
"""Bytes of a picture."""

PATIENCE = 120_000


def main() -> None:
    """Make the gallery, serve it, and draw."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = flags.parse_args()
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        place = str(Path(folder) / "galleries")
        hang_demo(place)
        blurred = write_blurred(Path(folder) / "blurred.jpg")
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=SOFTWARE)
        with listening([VSSL, "serve", "--port", "0", "--galleries", place, "--ui"]) as server:
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport=WINDOW, color_scheme=scheme, reduced_motion="reduce")
                page.set_default_timeout(PATIENCE)
                for view, prepare in VIEWS.items():
                    page.goto(f"{server.url}/ui/#/clothes/{view}")
                    prepare(page, blurred)
                    settle(page)
                    write(page.screenshot(), OUT / f"page-{view}-{scheme}.webp")
                page.close()
        browser.close()


def write_blurred(path: Path) -> Path:
    """A photograph that is none of the gallery's, out of focus."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        name = next(name for name in archive.namelist() if name.startswith("queries/Shoes/") and name.endswith(".jpg"))
        picture = Image.open(io.BytesIO(archive.read(name)))
    picture.filter(ImageFilter.GaussianBlur(3)).save(path, quality=90)
    return path


def ask(page: Page, blurred: Path) -> None:
    """The photograph that is out of focus."""
    page.locator("input[type=file]").set_input_files(blurred)
    page.wait_for_selector(".neighbours img")


def look(page: Page, _: Path) -> None:
    """The wall."""
    page.wait_for_selector("main img")


def draw_map(page: Page, _: Path) -> None:
    """The map by neighbours, with one image shown."""
    page.wait_for_selector("canvas")
    start = page.get_by_role("button", name="Place by neighbours")
    if start.count():
        start.click()
        start.wait_for(state="hidden")
        page.get_by_text("Placed by neighbours").wait_for()
    # The keyboard points at what is nearest to the middle.
    page.locator("canvas").focus()
    for key in ("ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_selector(".map-card img")


def curate(page: Page, _: Path) -> None:
    """Odd ones, three chosen."""
    page.get_by_role("tab", name="Odd ones").click()
    page.wait_for_selector(".pick img")
    for place in (0, 2, 3):
        page.locator(".pick").nth(place).click()


def watch(page: Page, _: Path) -> None:
    """After a few readings of the metrics."""
    page.wait_for_selector(".tile")
    page.wait_for_timeout(7000)


VIEWS = {"ask": ask, "look": look, "map": draw_map, "curate": curate, "watch": watch}


def settle(page: Page) -> None:
    """Until all pictures are there and two frames are drawn."""
    page.wait_for_timeout(1000)
    page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => {})))")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def write(png: bytes, path: Path) -> None:
    """As WebP, with the best quality that is small enough."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (90, 80, 70, 60, 50):
        picture.save(path, quality=quality, method=6)
        if path.stat().st_size <= MOST:
            return
    raise SystemExit(f"{path} has more than {MOST:,} bytes")


if __name__ == "__main__":
    main()

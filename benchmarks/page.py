"""The page in Chromium: first paint, when it can be used, bytes; the map, its frames a second; violations of axe-core.

The demo's photographs of clothes, and galleries of made-up rows (clustered vectors, labels, uncertainty, no pictures)
in LanceDB, served by `vssl serve --ui`. Chromium draws in software (SwiftShader), so a graphics card does better.
Needs `playwright`, `axe-playwright-python` and a Chromium.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import pyarrow as pa
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from benchmarks.gallery import clusters
from benchmarks.report import Row, parser, report
from benchmarks.served import VSSL, listening
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vector_column
from vssl_server.http.galleries.upkeep import MAINTAINED

ROOT = Path(__file__).parents[1]
CLOTHES = f"{ROOT / 'demo' / 'clothes.zip'}::gallery"
DEMO = "clothes"
DIMENSION = 64
WRITTEN = 50_000
SOFTWARE = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WINDOW: ViewportSize = {"width": 1280, "height": 800}
LOADS = 5
"""First loads, each by a browser that has kept nothing; their median counts."""

VIEWS = ("ask", "look", "map", "curate", "curate?tab=next", "curate?tab=odd", "watch")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SECONDS = 4
PATIENCE = 600_000
"""Milliseconds for the first map of a million rows."""

WHOLE_FRAME = """async (rows) => {
  const { Plot } = await import("./plot.js");
  const canvas = Object.assign(document.createElement("canvas"), { width: 900, height: 650 });
  const plot = new Plot(canvas);
  const spread = () => (Math.random() + Math.random() + Math.random() - 1.5) / 1.5;
  plot.place(Float32Array.from({ length: rows }, spread), Float32Array.from({ length: rows }, spread));
  plot.colour(new Uint8Array(4 * rows).fill(200));
  const times = [];
  for (let frame = 0; frame < 6; frame++) {
    const begun = performance.now();
    plot.draw({ x: frame / 50, y: 0, zoom: 1 + frame / 5 }, 1);
    plot.finish();
    times.push(performance.now() - begun);
  }
  plot.free();
  return times.slice(1).sort((a, b) => a - b)[2];
}"""

COUNT_FRAMES = """(milliseconds) => new Promise((done) => {
  const begun = performance.now();
  let frames = 0;
  const next = (now) => {
    if (now - begun > milliseconds) done((1000 * frames) / (now - begun));
    else requestAnimationFrame(next);
    frames++;
  };
  requestAnimationFrame(next);
})"""


READY = """() => {
  const tiles = [...document.querySelectorAll("main [data-at]")];
  const pictures = [...document.querySelectorAll("main img")];
  return tiles.length > 0 && pictures.every((one) => one.currentSrc && one.complete);
}"""
"""The wall stands, and no picture of it is still on its way."""


def main() -> None:
    """Measure the demo and each size, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    flags.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = flags.parse_args()
    sizes = [5000] if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        hang_demo(folder)
        for rows in sizes:
            fill(folder, rows)
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=SOFTWARE)
        command = [VSSL, "serve", "--port", "0", "--galleries", folder, "--ui", "--deadline-seconds", "600"]
        with listening(command) as server:
            table = [measured(browser, server.url, name) for name in (DEMO, *map(name_of, sizes))]
            table[0]["axe violations"] = violations(browser, server.url)
        about = {
            "chromium": browser.version,
            "drawn": "in software (SwiftShader)",
            "window": "{width} × {height}".format(**WINDOW),
            "first loads": LOADS,
            "dimension of made-up rows": DIMENSION,
        }
        browser.close()
    report("The page", table, about, arguments.json)


def hang_demo(place: str) -> None:
    """The demo's photographs as a gallery of the default model, calibrated."""
    for words in (["create", DEMO], ["add", DEMO, CLOTHES], ["calibrate", DEMO]):
        subprocess.run([VSSL, "gallery", *words, "--at", place], check=True, stdout=subprocess.DEVNULL)


def name_of(rows: int) -> str:
    """The gallery's name."""
    return f"rows-{rows}"


def fill(place: str, rows: int) -> None:
    """A gallery of so many rows."""
    store = open_place(place).create(name_of(rows), Spec("made-up", DIMENSION, {"year": "integer"}))
    random = np.random.default_rng(0)
    for part, first in enumerate(range(0, rows, WRITTEN)):
        count = min(WRITTEN, rows - first)
        uncertainty = random.normal(-4, 1, count).astype(np.float32)
        columns = {
            "id": [f"folder/image-{number:07}.jpg" for number in range(first, first + count)],
            "embedding": vector_column(clusters(count, DIMENSION, 0, part)),
            "label": [f"label {number}" for number in random.integers(12, size=count)],
            "uncertainty": uncertainty,
            "percentile": np.clip(50 + 25 * (uncertainty + 4), 0, 100).astype(np.float32),
            "year": random.integers(2000, 2026, count),
        }
        store.upsert(pa.table(columns))
    # The server shall not begin to build an index, which takes both cores for minutes, while it is measured.
    store.write_record(MAINTAINED, json.dumps({"version": store.version(), "rows": rows}))
    store.close()


def measured(browser: Browser, url: str, name: str) -> Row:
    """The figures of one gallery: its grid, then its map."""
    home = f"{url}/ui/#/{name}"
    painted, usable = zip(*(first_load(browser, f"{home}/look") for _ in range(LOADS)), strict=True)
    page = new_page(browser)
    seconds_until(page, f"{home}/look", READY)
    sent = transferred(page, "/ui/")
    drawn = "() => document.querySelector('canvas')"
    first_map = seconds_until(page, f"{home}/map", drawn)
    again = seconds_until(page, f"{home}/map", drawn)
    row = {
        "gallery": name,
        "first paint s": median(painted),
        "usable s": median(usable),
        "page kB gzipped": sent / 1000,
        "first map s": first_map,
        "map s": again,
        "map MB": transferred(page, "/map?") / 1e6,
        "frames/s moving": frames(page),
    }
    if name != DEMO:
        row["whole frame ms"] = page.evaluate(WHOLE_FRAME, int(name.rpartition("-")[2]))
    page.context.close()
    return row


def new_page(browser: Browser, scheme: Literal["light", "dark"] = "light") -> Page:
    """A tab of a browser that has kept nothing."""
    page = browser.new_context(viewport=WINDOW, color_scheme=scheme).new_page()
    page.set_default_timeout(PATIENCE)
    return page


def first_load(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds to the first paint, and until the wall stands with its pictures."""
    page = new_page(browser)
    usable = seconds_until(page, address, READY)
    painted: float = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.context.close()
    return painted / 1000, usable


def violations(browser: Browser, url: str) -> int:
    """What axe-core finds in all views of the demo and in an open image, light and dark: elements at fault."""
    found = 0
    for scheme in SCHEMES:
        page = new_page(browser, scheme)
        for view in ("", *(f"{DEMO}/{view}" for view in VIEWS)):
            page.goto("about:blank")
            page.goto(f"{url}/ui/#/{view}")
            settle(page)
            found += faults(page)
        page.goto(f"{url}/ui/#/{DEMO}/look")
        page.locator("[data-at]").first.click()
        page.locator("dialog[open]").wait_for()
        settle(page)
        found += faults(page)
        page.context.close()
    return found


def settle(page: Page) -> None:
    """Until the view has what it asked for."""
    page.wait_for_load_state("networkidle")
    page.locator(".loading").first.wait_for(state="detached")


def faults(page: Page) -> int:
    """Elements of the page as it is now that break a rule of axe-core."""
    return sum(len(rule["nodes"]) for rule in Axe().run(page).response["violations"])


def seconds_until(page: Page, address: str, reached: str) -> float:
    """From a fresh load until a condition in JavaScript holds, and two frames more."""
    page.goto("about:blank")
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_function(reached)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return time.perf_counter() - begun


def transferred(page: Page, part: str) -> float:
    """Bytes that came over the wire from addresses with this part."""
    script = """(part) => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
      .filter((one) => one.name.includes(part)).reduce((sum, one) => sum + one.encodedBodySize, 0)"""
    sent: float = page.evaluate(script, part)
    return sent


def frames(page: Page) -> float:
    """Frames a second while the map is dragged; where they would be slow, the page draws fewer points meanwhile."""
    box = page.locator("canvas").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.evaluate(f"window.counted = ({COUNT_FRAMES})({1000 * SECONDS}); undefined")
    end = time.perf_counter() + SECONDS
    step = 0
    while time.perf_counter() < end:
        step += 1
        page.mouse.move(middle[0] + 80 * np.sin(step / 8), middle[1] + 80 * np.cos(step / 8))
        time.sleep(1 / 60)
    found: float = page.evaluate("window.counted")
    page.mouse.up()
    return found


if __name__ == "__main__":
    main()

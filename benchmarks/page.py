"""The page in Chromium: first paint, when it can be used, bytes; the map of many rows, and its frames a second.

Galleries of made-up rows (clustered vectors, labels, uncertainty, no pictures) in LanceDB, served by `vssl serve
--ui`; Chromium draws in software (SwiftShader), so a graphics card does better. Needs `playwright` and a Chromium.
"""

import tempfile
import time

import numpy as np
import pyarrow as pa
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.gallery import clusters
from benchmarks.report import Row, parser, report
from benchmarks.served import VSSL, listening
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.opening import open_place
from vssl_gallery.store.rows import vector_column

DIMENSION = 64
WRITTEN = 50_000
SOFTWARE = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
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


def main() -> None:
    """Measure each size, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, nargs="+", default=[219, 100_000, 1_000_000])
    flags.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = flags.parse_args()
    sizes = [min(rows, 5000) for rows in arguments.rows][:2] if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for rows in sizes:
            fill(folder, rows)
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=SOFTWARE)
        command = [VSSL, "serve", "--port", "0", "--galleries", folder, "--ui", "--deadline-seconds", "600"]
        with listening(command) as server:
            table = [measured(browser, server.url, rows) for rows in sizes]
        about = {"dimension": DIMENSION, "chromium": browser.version, "window": "1280 × 800"}
        browser.close()
    report("The page", table, about, arguments.json)


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
    store.close()


def measured(browser: Browser, url: str, rows: int) -> Row:
    """The figures of one gallery: its grid, then its map."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    home = f"{url}/ui/#/{name_of(rows)}"
    used = seconds_until(page, f"{home}/look", "[data-at]")
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null")
    first_load = transferred(page, "/ui/")
    first_map = seconds_until(page, f"{home}/map", "canvas")
    again = seconds_until(page, f"{home}/map", "canvas")
    row = {
        "rows": rows,
        "first paint ms": painted,
        "usable s": used,
        "page kB": first_load / 1000,
        "first map s": first_map,
        "map s": again,
        "map MB": transferred(page, "/map?") / 1e6,
        "frames/s moving": frames(page),
        "whole frame ms": page.evaluate(WHOLE_FRAME, rows),
    }
    page.close()
    return row


def seconds_until(page: Page, address: str, selector: str) -> float:
    """From a fresh load to the element, and two frames more."""
    page.goto("about:blank")
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(selector)
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

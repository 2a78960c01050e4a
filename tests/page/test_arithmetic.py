"""The page's own arithmetic, run in Chromium and compared with what Python says."""

import csv
import io
import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Error
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import vssl_server

STATIC = Path(vssl_server.__file__).parent / "page" / "static"
HERE = "http://page.test/"


@pytest.fixture(scope="module")
def modules(browser: Any) -> Iterator[Any]:
    """A page that can import the modules, from the folder and nowhere else."""
    page = browser.new_page()
    page.route(f"{HERE}**", lambda route: route.fulfill(path=STATIC / route.request.url.removeprefix(HERE)))
    page.route(HERE, lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(HERE)
    yield page
    page.close()


def call(page: Any, module: str, code: str, *given: Any) -> Any:
    """What `code`, a function of (module, ...given), says."""
    return page.evaluate(f"async given => ({code})(await import('/{module}.js'), ...given)", list(given))


def crossings(outline: list[tuple[float, float]], x: float, y: float) -> bool:
    """Even-odd rule, in exact fractions."""
    odd = False
    for (x0, y0), (x1, y1) in zip(outline[-1:] + outline[:-1], outline, strict=True):
        if (y0 > y) != (y1 > y):
            at = Fraction(x0) + (Fraction(y) - Fraction(y0)) / (Fraction(y1) - Fraction(y0)) * (
                Fraction(x1) - Fraction(x0)
            )
            odd ^= Fraction(x) < at
    return odd


def test_lasso_finds_the_rows_inside_of_an_outline_that_crosses_itself(modules: Any) -> None:
    random = np.random.default_rng(0)
    places = random.uniform(-1, 1, (600, 2)).astype(np.float32)
    for corners in (3, 9, 40):
        outline = random.uniform(-1, 1, (corners, 2)).tolist()
        found = call(
            modules, "lasso", "(m, o, x, y) => [...m.rowsInside(o, new Float32Array(x), new Float32Array(y))]",
            [part for corner in outline for part in corner], places[:, 0].tolist(), places[:, 1].tolist(),
        )  # fmt: skip
        wanted = [row for row, (x, y) in enumerate(places.tolist()) if crossings(list(map(tuple, outline)), x, y)]
        assert found == wanted
        assert wanted


def test_grid_finds_the_nearest_point(modules: Any) -> None:
    random = np.random.default_rng(1)
    places = np.clip(random.normal(0, 0.4, (900, 2)), -1, 1).astype(np.float32)
    asked = random.uniform(-1.1, 1.1, (200, 3)) * [1, 1, 0.15]
    asked[:, 2] = abs(asked[:, 2])
    found = call(
        modules, "grid",
        "(m, x, y, asked) => { const grid = new m.Grid(new Float32Array(x), new Float32Array(y));"
        " return asked.map((one) => grid.nearest(...one)); }",
        places[:, 0].tolist(), places[:, 1].tolist(), asked.tolist(),
    )  # fmt: skip
    apart = np.hypot(*(places.astype(np.float64)[:, None] - asked[None, :, :2]).transpose(2, 0, 1))
    wanted = np.where(apart.min(axis=0) <= asked[:, 2], apart.argmin(axis=0), -1)
    assert found == wanted.tolist()
    assert 20 < (wanted >= 0).sum() < 180


def test_map_is_read_from_bytes_wherever_its_header_ends(modules: Any) -> None:
    random = np.random.default_rng(2)
    x, y, number = random.uniform(-1, 1, (3, 5)).astype("<f4")
    codes = np.array([0, 1, -1, 1, 0], "<i4")
    ids = ["a/b.jpg", '"<img onerror>"', "é\n", "d", "e"]
    text = json.dumps(ids).encode()
    columns = [
        {"name": "label", "kind": "category", "values": ["cöat", "bag"]},
        {"name": "uncertainty", "kind": "number"},
    ]
    for padding in range(4):
        header = {
            "rows": 5,
            "method": "pca",
            "version": 3,
            "columns": columns,
            "ids_bytes": len(text),
            "p": "x" * padding,
        }
        body = json.dumps(header).encode() + b"\n" + b"".join(a.tobytes() for a in (x, y, codes, number)) + text
        read = (
            "(m, body) => { const map = m.readMap(new Uint8Array(body).buffer); return ["
            "[...map.x], [...map.y], [...map.columns[0].data], [...map.columns[1].data],"
            "[0, 1, 2, 3, 4].map(map.idOf), map.columns[0].values, map.stale]; }"
        )
        found = call(modules, "points", read, list(body))
        assert found == [x.tolist(), y.tolist(), codes.tolist(), number.tolist(), ids, ["cöat", "bag"], False]
        with pytest.raises(Error, match="in part"):
            call(modules, "points", read, list(body[:-1]))


def test_a_pixel_stays_where_it_is_while_one_zooms(modules: Any) -> None:
    found = call(
        modules, "camera",
        "(m) => { let c = { x: .2, y: -.1, zoom: 3 }; const before = m.toMap(c, 800, 500, 123, 456);"
        " const near = m.zoomed(c, 800, 500, 123, 456, 2.5);"
        " return [before, m.toMap(near, 800, 500, 123, 456), m.toPixels(near, 800, 500, ...before), near.zoom]; }",
    )  # fmt: skip
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx([123, 456])
    assert found[3] == 7.5


def test_bounds_of_a_scale_are_percentiles(modules: Any) -> None:
    values = np.random.default_rng(3).normal(size=2001).astype(np.float32)
    values[0] = 1e6
    code = "(m, values) => m.bounds(new Float32Array(values.map((one) => one ?? NaN)))"
    found = call(modules, "colours", code, values.tolist())
    assert found == pytest.approx(np.quantile(values, [0.02, 0.98], method="nearest"))
    assert call(modules, "colours", code, [None, 2, 2]) == [1.5, 2.5]
    assert call(modules, "colours", code, [None, None]) is None
    assert call(modules, "colours", code, []) is None


def test_legend_counts_categories_and_those_without(modules: Any) -> None:
    codes = [2, 0, 0, -1, 1, 0, 2, -1]
    found = call(
        modules, "colours",
        "(m, data) => { const column = { kind: 'category', data: new Int32Array(data), values: ['a', 'b', 'c'] };"
        " const scale = m.scaleOf(column, false, '#000000');"
        " return [scale.entries.map((one) => [one.text, one.rows]), [...m.paint(8, column, scale, null)].length]; }",
        codes,
    )  # fmt: skip
    assert found == [[["a", 3], ["c", 2], ["b", 1], [None, 2]], 32]


def exposition() -> str:
    registry = CollectorRegistry()
    requests = Counter("vssl_requests", 'Requests: "all"\nof them', ["path", "status"], registry=registry)
    requests.labels('/v1/"e"\\x\n', "200").inc(3)
    requests.labels("/v1/embed,{}", "429").inc()
    Gauge("vssl_queue_images", "Queue", ["model"], registry=registry).labels("clothes").set(float("nan"))
    Gauge("tiny", "Small", registry=registry).set(-1.5e-9)
    Gauge("infinite", "Large", registry=registry).set(float("-inf"))
    seconds = Histogram("vssl_request_duration_seconds", "T", ["path"], buckets=(0.1, 0.5, 2), registry=registry)
    for value in (0.05, 0.2, 0.3, 0.4, 1, 1.5, 7):
        seconds.labels("/a" if value < 1 else "/b").observe(value)
    return generate_latest(registry).decode()


def test_metrics_are_read_as_prometheus_clients_parser_reads_them(modules: Any) -> None:
    text = exposition() + "with_time 5 1700000000000\n"
    plain = "value: Number.isFinite(s.value) ? s.value : String(s.value)"
    found = call(modules, "prometheus", f"(m, text) => m.parse(text).map((s) => ({{ ...s, {plain} }}))", text)
    wanted = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert [(one["name"], one["labels"]) for one in found] == [(sample.name, sample.labels) for sample in wanted]
    for one, sample in zip(found, wanted, strict=True):
        number = float(str(one["value"]).replace("Infinity", "inf"))
        assert number == sample.value or (math.isnan(number) and math.isnan(sample.value))


def test_a_histogram_is_summed_and_its_quantiles_are_those_of_promql(modules: Any) -> None:
    code = (
        "(m, text, shares) => { const h = m.histogram(m.parse(text), 'vssl_request_duration_seconds');"
        " return [h.counts, h.sum, shares.map((share) => m.quantile(share, h.bounds, h.counts))]; }"
    )
    counts, total, quantiles = call(modules, "prometheus", code, exposition(), [0.1, 0.5, 0.7, 0.99])
    assert counts == [1, 3, 2, 1]
    assert total == pytest.approx(10.45)
    # By hand: rank .7 of the first 1 in 0 … .1; 3.5 − 1 of 3 in .1 … .5; 4.9 − 4 of 2 in .5 … 2; above all: its bound.
    assert quantiles == pytest.approx([0.07, 0.1 + 0.4 * 2.5 / 3, 0.5 + 1.5 * 0.9 / 2, 2])
    nothing = call(modules, "prometheus", "(m) => String(m.quantile(0.5, [1, Infinity], [0, 0]))")
    assert nothing == "NaN"


def test_an_hour_is_kept_and_a_restart_is_no_negative_rate(modules: Any) -> None:
    text = 'vssl_requests_total{path="/a"} %d\nvssl_refusals_total{cause="queue_full"} %d\nvssl_queue_images 4\n'
    code = (
        "(m, texts) => { const hour = new m.Hour();"
        " texts.forEach((text, at) => hour.add(m.reading(text, at * 600000)));"
        " const { refusals, queue } = hour.whole;"
        " return [hour.readings.length, hour.steps().map((step) => step.rate * 600), refusals, queue]; }"
    )
    texts = [text % (count, 1) for count in (0, 10, 30, 60, 5, 5, 6, 7, 8, 9)]
    found = call(modules, "hour", code, texts)
    assert found == [7, pytest.approx([5, 0, 1, 1, 1, 1]), {"queue_full": 0}, 4]


def test_drift_needs_enough_images_and_three_standard_errors(modules: Any) -> None:
    code = "(m, ...rows) => { const found = m.drift(...rows); return [found.state, found.share, m.inWords(found)]; }"
    assert call(modules, "drift", code, 99, 99)[0] == "few"
    assert call(modules, "drift", code, 1000, 50)[:2] == ["as expected", pytest.approx(0.05)]
    assert "17 % of 1,150 images" in call(modules, "drift", code, 1150, 200)[2]
    assert call(modules, "drift", code, 2000, 10)[0] == "less uncertain"
    over = math.ceil(1000 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)))
    for count, wanted in ((over, "more uncertain"), (over - 1, "as expected")):
        assert call(modules, "drift", code, 1000, count)[0] == wanted


def test_undo_goes_back_step_by_step_and_changes_are_what_differs(modules: Any) -> None:
    code = """async (m) => {
      const undo = new m.Undo(), changes = new m.Changes(), labels = { a: null, 'b,"c"': "x" };
      const set = (id, label) => {
        const before = labels[id];
        labels[id] = label; changes.note(id, before, label);
        undo.add(`label ${id}`, async () => { labels[id] = before; changes.note(id, label, before); });
      };
      set("a", "one"); set("a", "two"); set('b,"c"', ""); set('b,"c"', "y, z");
      const all = m.toCsv(...changes.table());
      const said = [await undo.undo(), undo.next, undo.size];
      undo.add("fails", async () => { throw new Error("away"); });
      const failed = await undo.undo().catch((error) => error.message);
      const kept = undo.size;
      return [all, said, failed, kept, changes.size, m.suggestions(["coat", "bag", "overcoat", "Cap"], "c")];
    }"""
    text, said, failed, kept, size, suggested = call(modules, "undo", code)
    rows = [["id", "label", "label_before"], ["a", "two", ""], ['b,"c"', "y, z", "x"]]
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows
    assert said == ['label b,"c"', 'label b,"c"', 3]
    assert (failed, kept, size) == ("away", 4, 2)
    assert suggested == ["coat", "Cap", "overcoat"]


def test_parquet_says_what_pyarrow_reads(modules: Any) -> None:
    texts = ["", "x", None, "é\n", '"<b>,', "長い" * 100, "a\0b", None]
    for count in (0, 1, 7, 8, 9, 300, 20_000):
        rows = [[f"{at}.jpg", texts[at % len(texts)], None] for at in range(count)]
        names = ["id", "läbel", "label_before"]
        found = bytes(call(modules, "parquet", "(m, names, rows) => [...m.toParquet(names, rows)]", names, rows))
        table = pq.read_table(pa.BufferReader(found))
        assert table.schema == pa.schema([(name, pa.string()) for name in names])
        assert [list(row.values()) for row in table.to_pylist()] == rows
    wide = call(modules, "parquet", "(m, names) => [...m.toParquet(names, [names])]", [f"c{at}" for at in range(200)])
    assert pq.read_table(pa.BufferReader(bytes(wide))).num_columns == 200


def test_a_label_keeps_its_digit_and_a_new_one_takes_that_of_the_longest_unused(modules: Any) -> None:
    code = """async (m) => {
      const sent = [], common = [..."abcdefghij"];
      const rows = new Map();
      const write = async (ids, label) => (sent.push([ids, label]), ids.forEach((id) => rows.set(id, label)));
      const read = async (ids) => ids.map((id) => ({ id, label: rows.get(id) }));
      const labelling = new m.Labelling(write, read, common);
      const one = (label, before = null) => labelling.set(new Map([["x", before]]), label);
      const first = labelling.digits.join("");
      await one("i"); await one("b", "i"); await one("new", "b");
      const then = labelling.digits.join(" ");
      const several = new Map([["p", "a"], ["q", null], ["r", "a"]]);
      const said = await labelling.set(several, "b");
      const undone = await labelling.undo.undo();
      const done = sent.slice(3);
      await labelling.set(several, "b");
      rows.set("p", "somebody's");
      const partly = await labelling.undo.undo();
      return [first, then, said, undone, done, partly, [...rows], labelling.changes.table()];
    }"""
    first, then, said, undone, sent, partly, rows, changed = call(modules, "labelling", code)
    assert first == "abcdefghi"
    assert then == "a b c d e f g new i"
    assert said == undone == "“b” on 3 images"
    assert sent == [[["p", "q", "r"], "b"], [["p", "r"], "a"], [["q"], None]]
    assert partly == "“b” on 3 images, not of 1 image, which somebody else has changed since"
    assert dict(rows) == {"x": "new", "p": "somebody's", "q": None, "r": "a"}
    assert changed == [["id", "label", "label_before"], [["p", "somebody's", "a"], ["x", "new", None]]]


def test_labels_of_more_rows_than_a_request_takes_go_in_parts(modules: Any) -> None:
    code = """async (m) => {
      const sizes = [];
      const read = async (ids) => ids.map((id) => ({ id, label: "a" }));
      const labelling = new m.Labelling(async (ids) => void sizes.push(ids.length), read);
      await labelling.set(new Map(Array.from({ length: 25_000 }, (_, at) => [`${at}`, null])), "a");
      await labelling.undo.undo();
      return [sizes, labelling.changes.size];
    }"""
    assert call(modules, "labelling", code) == [[10_000, 10_000, 5_000] * 2, 0]


def test_what_is_higher_than_a_browser_scrolls_is_scrolled_from_end_to_end(modules: Any) -> None:
    code = """(m, whole, view) => {
      const { height, ratio, move } = m.scaled(whole, view);
      const end = height - view;
      return [height, move(0, 0, end), move(5e6, 5e6 / ratio, 0), move(0, 0, end / 2), move(7e6, 3e6, 3e6 + 100)];
    }"""
    for whole in (10_000_000, 37_000_000):
        height, last, first, middle, near = call(modules, "wall", code, whole, 800)
        assert height == min(whole, 15_000_000)
        assert (last, first) == (whole - 800, 0)
        assert middle == pytest.approx((whole - 800) / 2)
        assert near == (3_000_100 if whole == height else 7_000_100)
    assert call(modules, "wall", code, 500, 800)[:2] == [500, 0]


@pytest.mark.parametrize(
    ("percentile", "words"),
    [
        (100, "More uncertain than every reference image."),
        (99.9, "More uncertain than over 99 % of the reference images."),
        (97, "More uncertain than 97 % of the reference images."),
        (3, "More certain than 97 % of the reference images."),
        (0, "More certain than every reference image."),
    ],
)
def test_uncertainty_in_words(modules: Any, percentile: float, words: str) -> None:
    assert (
        call(modules, "words", "(m, one) => m.uncertainty(one)", {"uncertainty": 1, "percentile": percentile}) == words
    )

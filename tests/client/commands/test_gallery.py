"""`vssl gallery` on a folder of real images: every command once, what it refuses, and a kill in the middle."""

import csv
import io
import json
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.client.conftest import pictures
from tests.client.processes import command, vssl
from tests.conftest import FASHION
from vssl import cli
from vssl.bundle.reading import Bundle
from vssl_gallery.gallery import Gallery
from vssl_gallery.images import picture
from vssl_gallery.store.opening import open_place

app = cli.build_app()
COUNTED = ("embedded", "failed", "new")


def run(*words: object, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["gallery", *map(str, words)])
    assert done.exit_code == status, done.output
    return done.output


@contextmanager
def stored(name: str, at: Path) -> Iterator[Gallery]:
    with closing(open_place(str(at))) as place, closing(Gallery(place.open(name))) as opened:
        yield opened


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred, in class folders."""
    folder = tmp_path_factory.mktemp("images")
    with zipfile.ZipFile(FASHION) as archive:
        names = [name for name in archive.namelist() if name.startswith("test/") and name.endswith(".png")]
        archive.extractall(folder, names[::3])
    return folder / "test"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle, images: Path) -> Path:
    """Holds the gallery `clothes`, which no test changes."""
    at = tmp_path_factory.mktemp("galleries") / "here"
    run("create", "clothes", "--bundle", tiny_bundle.location, "--field", "year=integer", "--at", at)
    table = images.parent / "known.csv"
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    rows = "".join(f"{name},{2000 + number % 20},shelf {number % 3}\n" for number, name in enumerate(names))
    table.write_text(f"path,year,shelf\n{rows}")
    said = run("add", "clothes", images, "--metadata", table, "--bundle", tiny_bundle.location, "--at", at)
    assert f"{len(names):,} images of the source, 0 failed ({len(names):,} in this run)" in said
    return at


def test_what_was_added_is_there(place: Path, images: Path, tiny_bundle: Bundle) -> None:
    count = sum(1 for _ in images.rglob("*.png"))
    about = json.loads(run("info", "clothes", "--json", "--at", place))
    assert (about["rows"], about["fields"], about["calibration"]) == (count, {"year": "integer"}, "uncalibrated")
    with stored("clothes", place) as opened:
        rows = opened.rows(
            [(name := next(iter(sorted(images.rglob("*.png")))).relative_to(images).as_posix())],
            [
                "label",
                "year",
                "meta",
                "width",
                "height",
                "sha256",
                "precision",
                "size",
                "thumbnail",
            ],
        ).to_pylist()
    assert [row["id"] for row in rows] == [name]
    assert (rows[0]["label"], rows[0]["year"], rows[0]["precision"]) == (name.split("/")[0], 2000, "fp32")
    assert json.loads(rows[0]["meta"]) == {"shelf": "shelf 0"}
    assert (rows[0]["width"], rows[0]["height"], rows[0]["size"]) == (28, 28, (images / name).stat().st_size)
    with Image.open(io.BytesIO(rows[0]["thumbnail"])) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (28, 28))
    again = run("add", "clothes", images, "--bundle", tiny_bundle.location, "--json", "--at", place)
    assert {name: json.loads(again)[name] for name in COUNTED} == {"embedded": count, "failed": 0, "new": 0}


def test_images_and_rows_find_their_neighbours(place: Path, images: Path, tiny_bundle: Bundle) -> None:
    file = sorted(images.rglob("*.png"))[5]
    name = file.relative_to(images).as_posix()
    (found,) = lines(run("search", "clothes", file, "-k", 3, "--bundle", tiny_bundle.location, "--json", "--at", place))
    assert found["exact"]
    assert (found["rows"][0]["id"], round(found["rows"][0]["similarity"], 4)) == (name, 1)
    (same,) = lines(run("search", "clothes", "--id", name, "-k", 3, "--json", "--at", place))
    assert [row["id"] for row in same["rows"]] == [row["id"] for row in found["rows"]]
    where = json.dumps({"year": {"$gte": 2015}})
    text = run("search", "clothes", "--id", name, "--where", where, "--column", "year", "--at", place)
    years = [int(line.split("\t")[-1]) for line in text.splitlines()]
    assert len(years) == 10
    assert min(years) >= 2015


def test_labels_and_calibration(place: Path, images: Path, tmp_path: Path) -> None:
    run("snapshot", "clothes", "-o", tmp_path / "snapshot", "--at", place)
    run("restore", "own", tmp_path / "snapshot", "--at", place)
    ids = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))[:4]]
    classify = ["classify", "own", *(word for name in ids for word in ("--id", name)), "--json", "--at", place]
    assert {row["reason"] for row in lines(run(*classify))} == {"uncalibrated"}
    fitted = json.loads(run("calibrate", "own", "--json", "--at", place))
    assert 0 <= fitted["ece"] <= 1
    answers = lines(run(*classify))
    assert all(row["calibration"] == "fitted" and 0 <= row["p_correct"] <= 1 for row in answers)
    assert run("label", "own", "odd", *ids[:2], "nothing", "--at", place) == "own: 2 of 3 rows labelled\n"
    assert run("delete", "own", "--where", '{"label": "odd"}', "--dry-run", "--at", place).endswith(
        "2 rows would be deleted\n"
    )
    run("delete", "own", "--where", '{"label": "odd"}', "--at", place)
    run("maintain", "own", "--at", place)
    run("alias", "current", "own", "--at", place)
    assert json.loads(run("list", "--json", "--at", place)) == {
        "galleries": ["clothes", "own"],
        "aliases": {"current": "own"},
    }
    run("delete", "own", "--all", "--at", place)
    assert run("list", "--at", place) == "clothes\n"


def test_curating_and_files(place: Path, tmp_path: Path) -> None:
    groups = lines(run("duplicates", "clothes", "--threshold", 0.9, "--json", "--at", place))
    assert all(group["others"] and -1 <= group["similarity"] <= 1.001 for group in groups)
    assert len(run("outliers", "clothes", "-n", 5, "--at", place).splitlines()) == 5
    assert len(set(run("pick", "clothes", "-n", 5, "--at", place).splitlines())) in (0, 5)
    run("map", "clothes", "--fast", "-o", tmp_path / "map.csv", "--at", place)
    run("export", "clothes", "-o", tmp_path / "rows.csv", "--at", place)
    run("export", "clothes", "-o", tmp_path / "rows.parquet", "--where", '{"year": 2003}', "--at", place)
    with (tmp_path / "map.csv").open() as drawn, (tmp_path / "rows.csv").open() as rows:
        assert {row["id"] for row in csv.DictReader(drawn)} == {row["id"] for row in csv.DictReader(rows)}
    table = pq.read_table(tmp_path / "rows.parquet")
    assert set(table["year"].to_pylist()) == {2003}
    assert table["embedding"].null_count == 0


def test_a_folder_of_embeddings_is_imported(place: Path, images: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    vssl("embed", images, "-o", tmp_path / "out", "--bundle", tiny_bundle.location, "-q")
    run("create", "imported", "--bundle", tiny_bundle.location, "--at", place)
    said = run("import", "imported", tmp_path / "out", "--at", place)
    count = sum(1 for _ in images.rglob("*.png"))
    assert said == f"imported: {count:,} rows of {tmp_path / 'out'}\n"
    assert json.loads(run("info", "imported", "--json", "--at", place))["rows"] == count
    (tmp_path / "bad.png").write_bytes(b"no image")
    vssl("embed", tmp_path / "bad.png", "-o", tmp_path / "failed", "--bundle", tiny_bundle.location, "-q", status=1)
    said = run("import", "imported", tmp_path / "failed", "--at", place, status=1)
    assert "1 rows have no embedding" in said
    run("delete", "imported", "--all", "--at", place)


def test_a_killed_job_goes_on(images: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    run("create", "killed", "--bundle", tiny_bundle.location, "--at", tmp_path)
    words: list[str | Path] = [
        "gallery",
        "add",
        "killed",
        images,
        "--bundle",
        tiny_bundle.location,
        "--json",
        "--at",
        tmp_path,
    ]
    # It ends itself, as a kill does, when the first rows are written.
    before = (
        "import os, signal, vssl_client.filling.embedding as here; here.TOGETHER = 64; put = here.EmbedHere._put\n"
        "def _put(*given):\n    if put(*given): os.kill(os.getpid(), signal.SIGKILL)\n"
        "here.EmbedHere._put = _put"
    )
    killed = subprocess.run(command(*words, before=before), capture_output=True, check=False, timeout=120)
    assert killed.returncode == -9, killed.stderr
    count = sum(1 for _ in images.rglob("*.png"))
    there = json.loads(run("info", "killed", "--json", "--at", tmp_path))["rows"]
    assert 0 < there < count
    found = json.loads(vssl(*words).stdout)
    assert {name: found[name] for name in COUNTED} == {"embedded": count, "failed": 0, "new": count - there}
    assert json.loads(run("info", "killed", "--json", "--at", tmp_path))["rows"] == count


def test_bad_images_are_named_and_the_others_added(tiny_bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number, data in enumerate(pictures(3)):
        (source / f"<img onerror> {number}.png").write_bytes(data)
    (source / "bad.png").write_bytes(pictures(1)[0][:80])
    run("create", "some", "--no-thumbnails", "--bundle", tiny_bundle.location, "--at", tmp_path / "g")
    said = run("add", "some", source, "--bundle", tiny_bundle.location, "--at", tmp_path / "g", status=1)
    assert "3 images of the source, 1 failed" in said
    assert "bad.png: " in said
    with stored("some", tmp_path / "g") as opened:
        assert opened.info().rows == 3
        assert opened.rows(["<img onerror> 1.png"], ["thumbnail", "label"]).to_pylist()[0]["thumbnail"] is None


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["info", "nothing"], 2, "nothing"),
        (["create", "No Name"], 2, "a-z"),
        (["create", "x", "--field", "year"], 2, "NAME="),
        (["create", "x", "--field", "year=date"], 2, "date"),
        (["search", "clothes"], 2, "--id"),
        (["search", "clothes", "--id", "nothing"], 1, "no such row"),
        (["search", "clothes", "--id", "x", "--where", "{"], 2, "not JSON"),
        (["search", "clothes", "--id", "x", "--where", "[]"], 2, "object"),
        (["search", "clothes", "photo.png", "--bundle", "builtin:tiny"], 2, "encoder"),
        (["add", "clothes", "nowhere"], 2, "nowhere"),
        (["import", "clothes", "nowhere"], 2, "no embeddings"),
        (["delete", "clothes"], 2, "--where"),
        (["export", "clothes", "-o", "rows.txt"], 2, ".csv"),
        (["restore", "y", "nowhere"], 1, "nowhere"),
        (["calibrate", "clothes", "--at", "ftp://x"], 2, "ftp"),
    ],
)
def test_what_is_refused(place: Path, words: list[str], status: int, says: str) -> None:
    flags = [] if "--at" in words else ["--at", place]
    assert says in run(*words, *flags, status=status)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.csv", "file,year\na,1\n", "neither a column path"),
        ("x.csv", "path,year\na,1\na,2\n", "there twice"),
        ("x.jsonl", "{]", "can't be read"),
        ("x.jsonl", '{"path": 3}', "row 1 has no path"),
        ("x.txt", "", "take .csv"),
    ],
)
def test_metadata_that_is_none(place: Path, images: Path, tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    assert says in run("add", "clothes", images, "--metadata", tmp_path / name, "--at", place, status=2)


def test_what_a_gallery_cannot_hold_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    long = source / "/".join(["x" * 200] * 6)
    long.mkdir(parents=True)
    (long / "a.png").write_bytes(pictures(1)[0])
    (source / "good.png").write_bytes(pictures(1)[0])
    (tmp_path / "late.csv").write_text("path,year\ngood.png,late\n")
    (tmp_path / "other.csv").write_text("path,year\ngood.png,2001\ngone.png,2002\n")
    place = tmp_path / "g"
    run("create", "some", "--field", "year=integer", "--bundle", tiny_bundle.location, "--at", place)
    add = ["add", "some", source, "--bundle", tiny_bundle.location, "--at", place]
    said = run(*add, "--metadata", tmp_path / "late.csv", status=1)
    assert "good.png: field 'year': takes an integer, not 'late'" in said
    assert json.loads(run("info", "some", "--json", "--at", place))["rows"] == 0
    said = run(*add, "--metadata", tmp_path / "other.csv", status=1)
    assert "1 images of the source, 1 failed" in said
    assert "id: 1,211 bytes; a gallery takes at most 1,024" in said
    assert "1 rows of the metadata name no image of the source: gone.png" in said


def test_a_thumbnail_is_drawn_as_the_model_sees_the_picture() -> None:
    deep = np.linspace(0, 65535, 400 * 600).reshape(400, 600).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    width, height, thumbnail = picture(file.getvalue(), True)
    assert (width, height) == (600, 400)
    with Image.open(io.BytesIO(thumbnail or b"")) as drawn:
        assert drawn.size == (256, 171)
        assert abs(np.asarray(drawn).mean() - 127) < 2  # 16 bits are scaled, not clipped
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph = io.BytesIO()
    Image.new("RGB", (3000, 2000), "red").save(photograph, "JPEG", exif=exif)
    width, height, thumbnail = picture(photograph.getvalue(), True)
    assert (width, height) == (2000, 3000)
    with Image.open(io.BytesIO(thumbnail or b"")) as drawn:
        assert drawn.size == (171, 256)
        assert not drawn.getexif()
    assert picture(b"no image", True) == (None, None, None)

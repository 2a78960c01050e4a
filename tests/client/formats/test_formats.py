"""Parts in every format: the same rows, the same resume."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bad_files import bad_files
from tests.client.conftest import pictures
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError, VsslError
from vssl.sources.opening import open_source
from vssl.uncertainty.calibrated import FLAGS, NUMBERS
from vssl_client.embedding.local import LocalEmbedder
from vssl_client.folder import part_writer as parts
from vssl_client.folder.job import embed_source
from vssl_client.formats.contract import FormatName, open_format
from vssl_client.formats.parquet import read_columns
from vssl_client.parts.finding import parts_of
from vssl_client.parts.stored import read_embeddings

OTHERS: list[FormatName] = ["npz", "jsonl"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parts, "PART_ROWS", 64)
    (tmp_path / "data").mkdir()
    for number, data in enumerate(pictures(150)):
        (tmp_path / "data" / f"写真 {number:03d}.png").write_bytes(data)
    for name, data in bad_files().items():
        (tmp_path / "data" / name).write_bytes(data)
    (tmp_path / "data" / "dangling.png").symlink_to("nowhere.png")
    return tmp_path / "data"


@pytest.fixture(params=["plain", "calibrated"])
def model(request: pytest.FixtureRequest) -> Bundle:
    name = "tiny_bundle" if request.param == "plain" else "calibrated_bundle"
    bundle: Bundle = request.getfixturevalue(name)
    return bundle


def rows_of(out: Path, format: FormatName) -> list[dict[str, object]]:
    """All rows as Parquet's reader gives them."""
    rows: list[dict[str, object]] = []
    for part in parts_of(out, open_format(format).SUFFIX):
        if format == "parquet":
            rows += read_columns(part).to_pylist()
        elif format == "jsonl":
            lines = [json.loads(line) for line in part.read_text().splitlines()]
            assert {(line.pop("version"), line.pop("dimension")) for line in lines} == {("1", 16)}
            assert all(line.pop(key) for line in lines for key in ("model", "id", "source"))
            rows += lines
        else:
            with np.load(part) as arrays:
                rows += [from_arrays(arrays, row) for row in range(len(arrays["path"]))]
    return rows


def from_arrays(arrays: "np.lib.npyio.NpzFile", row: int) -> dict[str, object]:
    good = not arrays["error"][row]
    found: dict[str, object] = {name: arrays[name][row].item() or None for name in ("path", "sha256", "error", "label")}
    found["size"] = None if arrays["size"][row] < 0 else int(arrays["size"][row])
    for name in ("embedding", "variance", "uncertainty"):
        assert np.isnan(arrays[name][row]).all() == (not good)
        found[name] = arrays[name][row].tolist() if good else None
    for name in NUMBERS:
        found[name] = arrays[name][row].item() if good and name in arrays else None
    flags = {name: bool(arrays[f"flags_{name}"][row]) for name in FLAGS if f"flags_{name}" in arrays}
    found["flags"] = flags if good and flags else None
    return found


@pytest.mark.parametrize("format", OTHERS)
def test_the_rows_are_parquets(format: FormatName, folder: Path, tmp_path: Path, model: Bundle) -> None:
    both: list[FormatName] = ["parquet", format]
    with LocalEmbedder(model) as embedder:
        for name in both:
            embed_source(open_source(str(folder)), tmp_path / name, embedder, format=name)
    expected, found = rows_of(tmp_path / "parquet", "parquet"), rows_of(tmp_path / format, format)
    assert len(found) == 156
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for column, value in theirs.items():
            if isinstance(value, list | float):
                np.testing.assert_array_equal(np.array(ours[column], np.float32), np.array(value, np.float32))
            else:
                assert ours[column] == value


@pytest.mark.parametrize("format", ["parquet", *OTHERS])
def test_parts_of_an_earlier_version_are_read(
    format: FormatName, folder: Path, tmp_path: Path, calibrated_bundle: Bundle
) -> None:
    with LocalEmbedder(calibrated_bundle) as embedder:
        embed_source(open_source(str(folder)), tmp_path / "out", embedder, format=format)
    first, *_ = parts_of(tmp_path / "out", open_format(format).SUFFIX)
    whole = read_embeddings(tmp_path / "out")
    as_by_an_earlier_version(first)
    found = read_embeddings(tmp_path / "out")
    assert found.familiarity is not None
    assert found.flags is not None
    assert whole.familiarity is not None
    assert whole.flags is not None
    lacking = len(found) - (~np.isnan(found.familiarity)).sum()
    assert 0 < lacking < 64
    assert found.labels[: int(lacking)] == [None] * lacking
    np.testing.assert_array_equal(found.familiarity[lacking:], whole.familiarity[lacking:])
    assert not found.flags["unfamiliar"][:lacking].any()
    np.testing.assert_array_equal(found.flags["ood"], whole.flags["ood"])


def as_by_an_earlier_version(part: Path) -> None:
    """Write a part again without what has been added to the formats."""
    if part.suffix == ".parquet":
        table = pq.read_table(part)
        flags = pa.array(
            [row and {name: row[name] for name in ("degraded", "ood")} for row in table["flags"].to_pylist()]
        )
        table = table.drop_columns(["familiarity", "label"])
        pq.write_table(table.set_column(table.schema.get_field_index("flags"), "flags", flags), part)
    elif part.suffix == ".npz":
        with np.load(part) as arrays:
            kept = {name: arrays[name] for name in arrays if name not in ("familiarity", "label", "flags_unfamiliar")}
        np.savez(part, **kept)
    else:
        lines = [json.loads(line) for line in part.read_text().splitlines()]
        for line in lines:
            del line["familiarity"], line["label"]
            (line["flags"] or {}).pop("unfamiliar", None)
        part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


@pytest.mark.parametrize("format", OTHERS)
def test_a_job_goes_on_where_it_was(format: FormatName, folder: Path, tmp_path: Path, local: LocalEmbedder) -> None:
    out, source = tmp_path / "out", open_source(str(folder))
    whole = embed_source(source, out, local, format=format)
    files = parts_of(out, open_format(format).SUFFIX)
    assert len(files) == 3
    before = {part.name: part.read_bytes() for part in files}
    again = embed_source(source, out, local, format=format)
    assert (again.new, again.embedded, again.failed, again.failures) == (0, 150, 6, whole.failures)
    files[1].unlink()
    assert embed_source(source, out, local, format=format).new == 64
    assert {part.name: part.read_bytes() for part in (files[0], files[2])}.items() <= before.items()
    with pytest.raises(UsageError, match="holds something else"):
        embed_source(source, out, local)
    files[0].write_bytes(files[0].read_bytes()[:-7])
    with pytest.raises(VsslError, match=r"part-000000.*not a part"):
        embed_source(source, out, local, format=format)
    files[0].write_bytes(b"")
    with pytest.raises(VsslError, match=r"part-000000.*not a part"):
        embed_source(source, out, local, format=format)


def test_only_bad_images_make_a_part_too(tmp_path: Path, local: LocalEmbedder) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.jpg").touch()
    every: list[FormatName] = ["parquet", *OTHERS]
    for format in every:
        for new in (1, 0):
            done = embed_source(open_source(str(tmp_path / "data")), tmp_path / format, local, format=format)
            assert (done.failed, done.new) == (1, new)


def test_another_format_is_refused() -> None:
    with pytest.raises(UsageError, match="'csv' is not one of parquet, npz, jsonl"):
        open_format("csv")  # type: ignore[arg-type]

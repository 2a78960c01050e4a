"""The Parquet schema, which is frozen: what is written comes back, for our reader and for any other."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl.errors import UsageError, VsslError
from vssl.uncertainty.calibrated import FLAGS
from vssl_client.errors import ImageRejected
from vssl_client.formats.columns import Origin
from vssl_client.formats.parquet import schema, write_part
from vssl_client.parts.finding import parts_of
from vssl_client.parts.rows import Rows
from vssl_client.parts.stored import read_embeddings
from vssl_client.results.assembly import Numbers, Provenance, all_failed, filled, joined
from vssl_client.results.result import EmbeddingResult

ORIGIN = Origin("model", "3", "a" * 64, "photos", 4)
FROZEN = """\
path: string
sha256: string
size: int64
embedding: fixed_size_list<element: float>[4]
  child 0, element: float
variance: fixed_size_list<element: float>[4]
  child 0, element: float
uncertainty: float
percentile: float
confidence: float
flags: struct<degraded: bool, ood: bool, unfamiliar: bool>
  child 0, degraded: bool
  child 1, ood: bool
  child 2, unfamiliar: bool
error: string
label: string
familiarity: float"""


def rows(good: list[bool], calibrated: bool = False, seed: int = 0) -> EmbeddingResult:
    rng = np.random.default_rng(seed)
    count = sum(good)
    errors = [None if fine else ImageRejected("damaged", f"image {index}") for index, fine in enumerate(good)]
    embedding, variance = rng.random((2, count, 4), np.float32)
    uncertainty, percentile, confidence, familiarity = rng.random((4, count), np.float32)
    if not calibrated:
        return filled(errors, Provenance("model", "3"), Numbers(embedding, variance, uncertainty))
    flags = {name: rng.random(count) < 0.5 for name in FLAGS}
    numbers = Numbers(embedding, variance, uncertainty, percentile, confidence, flags, familiarity)
    return filled(errors, Provenance("model", "3"), numbers)


def write(folder: Path, number: int, result: EmbeddingResult, origin: Origin = ORIGIN) -> list[str]:
    paths = [f"{number}/ü {index}.jpg" for index in range(len(result))]
    hashes = ["0" * 64 if fine else None for fine in result.ok]
    sizes = [10 if fine else None for fine in result.ok]
    columns = Rows(paths, hashes, sizes, result).as_columns(origin.dimension)
    write_part(folder / f"part-{number:06d}.parquet", origin, columns)
    return paths


def test_the_schema_is_the_one_that_is_frozen(tmp_path: Path) -> None:
    assert schema(ORIGIN).to_string(show_schema_metadata=False) == FROZEN
    assert schema(ORIGIN).metadata == {
        b"vssl.model": b"model",
        b"vssl.version": b"3",
        b"vssl.id": b"a" * 64,
        b"vssl.source": b"photos",
    }
    for number, result in enumerate([rows([True] * 3), rows([False] * 3), rows([True, False], calibrated=True)]):
        write(tmp_path, number, result)
        assert pq.read_schema(tmp_path / f"part-{number:06d}.parquet").equals(schema(ORIGIN), check_metadata=True)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=20), min_size=1, max_size=4), st.booleans())
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[bool]], calibrated: bool
) -> None:
    folder = tmp_path_factory.mktemp("out")
    results = [rows(good, calibrated, seed) for seed, good in enumerate(parts)]
    paths = [path for number, result in enumerate(results) for path in write(folder, number, result)]
    whole, stored = joined(results), read_embeddings(folder)
    assert stored.paths == [path for path, fine in zip(paths, whole.ok, strict=True) if fine]
    assert stored.origin == ORIGIN
    assert stored.failures == [
        (path, error.reason) for path, error in zip(paths, whole.errors, strict=True) if error is not None
    ]
    for name in ("embedding", "variance", "uncertainty"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(whole, name)[whole.ok])
    for name in ("percentile", "confidence", "familiarity", "flags"):
        assert (getattr(stored, name) is None) == (not calibrated or not whole.ok.any())
    if stored.percentile is not None and whole.percentile is not None:
        np.testing.assert_array_equal(stored.percentile, whole.percentile[whole.ok])
    if stored.familiarity is not None and whole.familiarity is not None:
        np.testing.assert_array_equal(stored.familiarity, whole.familiarity[whole.ok])
    if stored.flags is not None and whole.flags is not None:
        for name, values in stored.flags.items():
            np.testing.assert_array_equal(values, whole.flags[name][whole.ok])


def test_other_readers_see_null_rows_where_images_failed(tmp_path: Path) -> None:
    result = rows([False, True, True, False, True], calibrated=True)
    write(tmp_path, 0, result)
    write(tmp_path, 1, all_failed([ImageRejected("empty", "0 bytes")], Provenance("model", "3")))
    (tmp_path / "_lock").touch()
    table = pyarrow.dataset.dataset(tmp_path).to_table()
    embeddings = table["embedding"].to_pylist()
    assert [value is None for value in embeddings] == [True, False, False, True, False, True]
    np.testing.assert_array_equal(np.array([value for value in embeddings if value]), result.embedding[result.ok])
    for name in ("variance", "uncertainty", "percentile", "confidence", "familiarity", "flags", "sha256", "size"):
        assert [value is None for value in table[name].to_pylist()] == [value is None for value in embeddings]
    assert [value is None for value in table["error"].to_pylist()] == [value is not None for value in embeddings]
    found = pyarrow.dataset.dataset(tmp_path).to_table(filter=pyarrow.dataset.field("error").is_null())
    assert found["embedding"].null_count == 0


def test_no_parts_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no embeddings"):
        read_embeddings(tmp_path)


def test_parts_of_two_models_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 0, rows([True]))
    write(tmp_path, 1, rows([True]), Origin("model", "4", "b" * 64, "photos", 4))
    with pytest.raises(VsslError, match=r"part-000001.*another model"):
        read_embeddings(tmp_path)


def damage(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-20])


def replace(part: Path) -> None:
    pq.write_table(pa.table({"path": ["x"]}), part)


@pytest.mark.parametrize("make_bad", [damage, replace, lambda part: part.write_bytes(b"")])
def test_a_part_that_is_none_is_named(tmp_path: Path, make_bad: object) -> None:
    write(tmp_path, 0, rows([True]))
    assert callable(make_bad)
    make_bad(parts_of(tmp_path)[0])
    with pytest.raises(VsslError, match=r"part-000000.parquet: not a part"):
        read_embeddings(tmp_path)


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    write(tmp_path, 0, rows([True] * 50))
    part = parts_of(tmp_path)[0]
    data = bytearray(part.read_bytes())
    data[4:60] = b"\xff" * 56
    part.write_bytes(data)
    with pytest.raises(VsslError, match=r"part-000000.parquet: not a part"):
        read_embeddings(tmp_path)

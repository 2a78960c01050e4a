"""What a table must hold to become rows of a gallery."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.gallery.samples import DIMENSION, SPEC, some_rows, unit_vectors
from vssl_gallery.errors import InvalidName, InvalidRows, TooLarge
from vssl_gallery.store.columns import FieldType, check_fields, check_gallery_name
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.rows import checked, schema, vector_column, vectors


def test_rows_get_every_column_and_defaults() -> None:
    rows = checked(some_rows(3, year=[1, None, 3]).drop_columns("added_at"), SPEC)
    assert rows.schema == schema(SPEC)
    assert rows["path"].to_pylist() == rows["id"].to_pylist()
    assert rows["added_at"].null_count == 0
    assert rows["year"].to_pylist() == [1, None, 3]
    assert vectors(rows["embedding"]).shape == (3, DIMENSION)


def test_of_rows_with_one_id_the_last_counts() -> None:
    rows = checked(some_rows(4, id=["a", "b", "a", "c"], year=[1, 2, 3, 4]), SPEC)
    assert rows["id"].to_pylist() == ["b", "a", "c"]
    assert rows["year"].to_pylist() == [2, 3, 4]


def test_minus_zero_becomes_zero() -> None:
    rows = checked(some_rows(1, price=[-0.0]), SPEC)
    assert math.copysign(1, rows["price"][0].as_py()) == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"id": ["a", None]}, "'id' has rows without a value"),
        ({"id": ["a", ""]}, "an empty text"),
        ({"id": ["a", "x" * 1025]}, "'id' holds a text of 1,025 bytes"),
        ({"label": ["a", "é" * 513]}, "'label' holds a text of 1,026 bytes"),
        ({"meta": ["{}", "x" * 65537]}, "'meta' holds a text of 65,537 bytes"),
        ({"name": ["a", "b\0"]}, "NUL"),
        ({"year": ["x", "y"]}, "'year' holds string, not int64"),
        ({"price": [1.0, math.nan]}, "not finite"),
        ({"uncertainty": [1.0, math.inf]}, "not finite"),
        ({"colour": ["red", "red"]}, "'colour' is none of this gallery's"),
        ({"embedding": vector_column(np.ones((2, DIMENSION), np.float32))}, "length 4, not 1"),
        ({"embedding": vector_column(np.full((2, DIMENSION), np.nan, np.float32))}, "length nan, not 1"),
        ({"embedding": vector_column(unit_vectors(2, 8))}, "'embedding' holds fixed_size_list"),
        ({"variance": vector_column(np.full((2, DIMENSION), np.inf, np.float32))}, "not finite"),
    ],
)
def test_what_is_no_row_is_refused(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRows, match=says):
        checked(some_rows(2, **columns), SPEC)


def test_a_column_is_missing_or_there_twice() -> None:
    with pytest.raises(InvalidRows, match="'embedding' is missing"):
        checked(some_rows(2).drop_columns("embedding"), SPEC)
    with pytest.raises(InvalidRows, match="appears twice"):
        checked(some_rows(2).append_column("label", pa.array(["a", "b"])), SPEC)


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "a" * 65, "..", "a b", "a\n"])
def test_names_that_no_gallery_can_have(name: str) -> None:
    with pytest.raises(InvalidName):
        check_gallery_name(name)


@pytest.mark.parametrize(
    "fields",
    [
        {"Label": "text"},
        {"Key": "text"},
        {"flags": "text"},
        {"a": "text", "A": "text"},
        {"a b": "text"},
        {"_a": "text"},
        {"a": "json"},
    ],
)
def test_names_that_no_field_can_have(fields: dict[str, FieldType]) -> None:
    with pytest.raises(InvalidName):
        check_fields(fields)


def test_a_gallery_has_at_most_64_fields() -> None:
    fields: dict[str, FieldType] = {f"field{number}": "integer" for number in range(64)}
    check_fields(fields)
    assert len(schema(Spec("e", 2, fields))) == 64 + 21
    with pytest.raises(TooLarge, match="65 fields"):
        check_fields({**fields, "one": "text"})

"""`POST …/rows` with streams of Arrow whose bytes were changed: each is written or refused, and none is a fault."""

import io
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vssl.search.nearest import normalised
from vssl_gallery.errors import InvalidRows
from vssl_gallery.store.contract import Spec, Version, Written
from vssl_gallery.store.rows import checked, vector_column, vector_type
from vssl_gallery.view import View
from vssl_server.http.galleries.adding import put_rows

SPEC = Spec("encoder", 4, {"year": "integer"})


class Checking(View):
    """Takes rows as every driver does, and keeps none."""

    def __init__(self) -> None:
        pass

    def add(self, rows: pa.Table) -> Written:
        return Written(Version(1), checked(rows, SPEC).num_rows)


def stream(rows: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows)
    return file.getvalue()


def some() -> dict[str, object]:
    vectors = normalised(np.random.default_rng(0).normal(size=(3, 4))).astype(np.float32)
    return {
        "id": ["x", "y", "z"],
        "embedding": vector_column(vectors),
        "label": pa.array(["a", "b", None]).dictionary_encode(),
        "year": pa.array([1, None, 3]),
    }


WHOLE = stream(pa.table(some()))
BITS = WHOLE.index(b"year")


@settings(max_examples=300, deadline=None)
@example([(BITS, 0xFF)])
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_bytes_that_changed(changes: list[tuple[int, int]]) -> None:
    body = bytearray(WHOLE)
    for place, value in changes:
        body[place] = value
    with suppress(InvalidRows):
        put_rows(Checking(), bytes(body))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("embedding", pa.array([[1, 0, 0, None]] * 3, vector_type(4)), "without some of its numbers"),
        ("variance", pa.array([None, [1, None, 1, 1], None], vector_type(4)), "without some of its numbers"),
        ("label", pa.array([[1], [2], [3]]), "'label' holds list"),
    ],
)
def test_values_of_another_kind(column: str, values: pa.Array, said: str) -> None:
    with pytest.raises(InvalidRows, match=said):
        put_rows(Checking(), stream(pa.table(some() | {column: values})))


def test_rows_that_are_only_claimed() -> None:
    """Nulls take no bytes, so that a few hundred may claim any number of rows."""
    body = stream(pa.table({"id": pa.nulls(1_000_000)}))
    assert len(body) < 1000
    with pytest.raises(InvalidRows, match="not as many vectors"):
        put_rows(Checking(), body)

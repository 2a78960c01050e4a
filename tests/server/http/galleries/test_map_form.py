"""The bytes of a map, read back as the page reads them."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vssl_server.http.galleries import map_form
from vssl_server.http.galleries.map_form import scaled, to_bytes

ABOUT = {"method": "pca", "version": 7, "stale": False, "missing": 0}


def read(data: bytes) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]], list[str]]:
    """The head, the blocks [rows] in their order, and the ids."""
    line, _, rest = data.partition(b"\n")
    assert (len(line) + 1) % 4 == 0
    head = json.loads(line)
    kinds = ["<f4", "<f4", *("<i4" if one["kind"] == "category" else "<f4" for one in head["columns"])]
    blocks = []
    for kind in kinds:
        blocks.append(np.frombuffer(rest[: 4 * head["rows"]], kind))
        rest = rest[4 * head["rows"] :]
    assert len(rest) == head["ids_bytes"]
    return head, blocks, json.loads(rest)


def test_every_kind_of_column() -> None:
    columns = {
        "label": pa.chunked_array([["b", None], ["a", "b"]]),
        "ood": pa.chunked_array([[True, None, False, True]]),
        "uncertainty": pa.chunked_array([pa.array([0.5, None, 1, 2], pa.float32())]),
        "width": pa.chunked_array([pa.array([1, 2, None, 4], pa.int64())]),
        "seen": pa.chunked_array([pa.array([0, 2_000_000, None, 1], pa.timestamp("us", tz="UTC"))]),
    }
    places = np.array([[0, 0], [4, 1], [2, 2], [1, 1]], np.float32)
    head, (x, y, *blocks), ids = read(to_bytes(ABOUT, places, pa.chunked_array([["i", "é/2", "\n", "4"]]), columns))
    assert {name: head[name] for name in ABOUT} == ABOUT
    assert (ids, x.tolist(), y.tolist()) == (["i", "é/2", "\n", "4"], [-1, 1, 0, -0.5], [-0.5, 0, 0.5, 0])
    assert [one.get("values") for one in head["columns"]] == [["b", "a"], ["true", "false"], None, None, None]
    assert [block.tolist() for block in blocks[:2]] == [[0, -1, 1, 0], [0, -1, 1, 0]]
    np.testing.assert_equal([block.tolist() for block in blocks[2:4]], [[0.5, np.nan, 1, 2], [1, 2, np.nan, 4]])
    assert blocks[4].tolist()[:2] == [0, 2]


def test_rare_values_are_left_out_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_form, "MOST_VALUES", 2)
    about, codes = map_form.column("label", pa.chunked_array([["c", "a", "b", "b"]]))
    assert about == {"name": "label", "kind": "category", "values": ["b", "a"], "left_out": 1}
    assert codes.tolist() == [-1, 1, 0, 0]


def test_a_map_of_nothing() -> None:
    empty = pa.chunked_array([], pa.string())
    assert read(to_bytes(ABOUT, np.zeros((0, 2), np.float32), empty, {"label": empty}))[2] == []


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(2)), elements=st.floats(-1e6, 1e6, width=32)))
def test_places_fill_the_square(places: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    found = scaled(places)
    assert np.abs(found).max() <= 1
    if np.ptp(places, axis=0).max() > 1e-3:
        assert np.ptp(found, axis=0).max() == pytest.approx(2, abs=1e-3)

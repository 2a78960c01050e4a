"""Answers as bytes: what a server says, and whatever else may come instead."""

import base64
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl_client import BadAnswer
from vssl_client.transports.wire import embed_body, read_embeddings, read_model, read_problem


def packed(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


def row(index: int, **changes: Any) -> dict[str, Any]:
    vectors = {"embedding": packed(1, 0), "variance": packed(0.5, 0.25)}
    return {"index": index, "name": None, **vectors, "uncertainty": -1.5, **changes}


def answer(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"model": "m", "version": "2", "data": rows}).encode()


REFUSED = {"index": 1, "name": None, "error": {"type": "damaged", "message": "cut short"}}


def test_rows_become_arrays() -> None:
    result = read_embeddings(answer(row(0), REFUSED, row(2, embedding=packed(0, 1))), 3)
    np.testing.assert_array_equal(result.embedding, np.array([[1, 0], [np.nan, np.nan], [0, 1]], np.float32))
    np.testing.assert_array_equal(result.uncertainty, np.array([-1.5, np.nan, -1.5], np.float32))
    assert [error and error.reason for error in result.errors] == [None, "damaged: cut short", None]
    assert (result.percentile, result.confidence, result.familiarity, result.flags) == (None, None, None, None)


def test_calibration_is_read_where_there_is_one() -> None:
    calibrated = {"percentile": 90.0, "confidence": 0.75, "flags": {"degraded": True, "ood": False}}
    result = read_embeddings(answer(row(0, **calibrated), REFUSED, row(2, percentile=None, flags=None)), 3)
    np.testing.assert_array_equal(result.percentile, np.array([90, np.nan, np.nan], np.float32))
    np.testing.assert_array_equal(result.confidence, np.array([0.75, np.nan, np.nan], np.float32))
    assert result.flags is not None
    assert {name: values.tolist() for name, values in result.flags.items()} == {
        "degraded": [True, False, False],
        "ood": [False, False, False],
        "unfamiliar": [False, False, False],  # of a server of an earlier version
    }


WRONG = {
    "too few rows": answer(row(0)),
    "another order": answer(row(1), row(0)),
    "no base64": answer(row(0), row(1, embedding="***")),
    "half a number": answer(row(0), row(1, embedding=base64.b64encode(b"abc").decode())),
    "rows of different width": answer(row(0), row(1, embedding=packed(1, 2, 3, 4))),
    "variance of another width": answer(row(0, variance=packed(1)), row(1, variance=packed(1))),
    "a text for a number": answer(row(0), row(1, uncertainty="high")),
    "a number beyond all bounds": answer(row(0), row(1, uncertainty=10**400)),
    "no JSON": b"<html>",
    "nothing": b"",
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="/v1/embed"):
        read_embeddings(body, 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*row(0), "error", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"model": JSON, "version": JSON, "data": st.lists(JSON, max_size=3)}) | JSON | st.binary())
def test_whatever_comes_is_an_answer_or_a_bad_one(answer: Any) -> None:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    for read in (lambda: read_embeddings(body, 1), lambda: read_model(body)):
        with suppress(BadAnswer):
            assert read() is not None
    assert isinstance(read_problem(body)[0], str)


def test_half_a_surrogate_pair_becomes_text_that_can_be_stored() -> None:
    refused = b'{"index":0,"error":{"type":"x","message":"\\ud800"}}'
    result = read_embeddings(b'{"model":"m","version":"1","data":[' + refused + b"]}", 1)
    assert result.errors[0] is not None
    assert result.errors[0].reason == "x: ?"


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4))
def test_a_body_holds_the_images_as_they_are(images: list[bytes]) -> None:
    body, headers = embed_body(images)
    boundary = headers["Content-Type"].split("boundary=")[1].encode()
    parts = body.split(b"--" + boundary)[1:-1]
    assert [part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in parts] == images

"""Filters are parsed once, into what every driver compiles; the evaluator in Python is their oracle."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tests.gallery.samples import FIELDS
from vssl_gallery.errors import InvalidFilter, TooLarge
from vssl_gallery.store.filters import And, Equal, Exists, In, Not, Or, matches, parse_filter

ROW = {"id": "a", "label": "shoe", "year": 2020, "price": 2.5, "sold": True, "seen": datetime(2026, 5, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    "document",
    [
        {"label": "shoe"},
        {"label": "shoe", "year": {"$gte": 2020, "$lt": 2021}},
        {"label": {"$ne": "boot"}},
        {"name": None},
        {"name": {"$exists": False}},
        {"name": {"$ne": "anything"}},
        {"year": {"$in": [1, 2020]}},
        {"$or": [{"label": "boot"}, {"sold": True}]},
        {"$and": [{"label": "shoe"}, {"price": {"$gt": 2}}]},
        {"$not": {"year": {"$lt": 2020}}},
        {"seen": {"$gte": "2026-05-01"}},
        {"seen": "2026-05-01T02:00:00+02:00"},
        {},
        None,
    ],
)
def test_a_filter_that_holds(document: Any) -> None:
    assert matches(parse_filter(document, FIELDS), ROW)
    if document:
        assert not matches(parse_filter({"$not": document}, FIELDS), ROW)


@pytest.mark.parametrize(
    "document",
    [
        {"name": {"$gt": ""}},
        {"name": {"$in": []}},
        {"name": {"$in": ["", "x"]}},
        {"name": {"$exists": True}},
        {"$and": [{"label": "shoe"}, {"sold": False}]},
        {"$or": [{"label": "boot"}, {"year": {"$lte": 2019}}]},
    ],
)
def test_a_filter_that_does_not_hold(document: Any) -> None:
    assert not matches(parse_filter(document, FIELDS), ROW)
    assert matches(parse_filter({"$not": document}, FIELDS), ROW)


def test_the_tree_that_drivers_compile() -> None:
    found = parse_filter({"label": "shoe", "$or": [{"year": {"$ne": None}}, {"id": {"$in": ["a"]}}]}, FIELDS)
    assert found == And(
        (
            Equal("label", "text", "shoe"),
            Or((Exists("year", "integer"), In("id", "text", ("a",)))),
        )
    )
    assert parse_filter({"sold": {"$ne": False}}, FIELDS) == Not(Equal("sold", "boolean", False))


def test_a_number_is_rounded_as_its_column_is() -> None:
    assert matches(parse_filter({"uncertainty": 0.1}, FIELDS), {"uncertainty": float(np.float32(0.1))})
    assert matches(parse_filter({"price": -0.0}, FIELDS), {"price": 0.0})


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"colour": "red"}, "no field 'colour'; there are id, path"),
        ({"embedding": 1}, "can't be searched by"),
        ({"year": {"$like": 2}}, r"'\$like' is not one of \$eq"),
        ({"$nor": []}, r"'\$nor' is not an operator here"),
        ({"$or": []}, "a list of one or more"),
        ({"$or": {"label": "a"}}, "a list of one or more"),
        ({"$not": {}}, "an object with a condition"),
        ({"$and": ["label"]}, "an object with a condition"),
        ({"year": {}}, "an empty object"),
        ({"year": "2020"}, "takes an integer, not '2020'"),
        ({"year": True}, "takes an integer, not True"),
        ({"year": 2**63}, "more than 64 bits"),
        ({"year": {"$gt": None}}, "takes an integer, not None"),
        ({"year": {"$in": [1, None]}}, "takes an integer, not None"),
        ({"year": {"$in": 1}}, "takes a list"),
        ({"price": float("nan")}, "not finite"),
        ({"price": 10**400}, "out of range"),
        ({"uncertainty": 1e39}, "out of range"),
        ({"sold": 1}, "takes true or false"),
        ({"sold": {"$gt": False}}, "does not order"),
        ({"name": {"$exists": 1}}, "takes true or false"),
        ({"name": "a\0b"}, "NUL"),
        ({"name": "\ud800"}, "UTF-8"),
        ({"name": "x" * 70_000}, "more than 64 kB"),
        ({"seen": "tomorrow"}, "is not a time"),
        ({"seen": "0001-01-01T00:00:00+10:00"}, "out of range"),
        ({1: 2}, "no field 1"),
        (["label"], "an object with a condition"),
        ("label = 'a'", "an object with a condition"),
    ],
)
def test_what_is_no_filter_is_refused(document: Any, says: str) -> None:
    with pytest.raises(InvalidFilter, match=says):
        parse_filter(document, FIELDS)


def test_a_filter_is_bounded() -> None:
    deep: Any = {"label": "a"}
    for _ in range(7):
        deep = {"$not": deep}
    assert parse_filter(deep, FIELDS)
    with pytest.raises(InvalidFilter, match="deeper than 8"):
        parse_filter({"$not": deep}, FIELDS)
    with pytest.raises(TooLarge, match="1,000 conditions"):
        parse_filter({"$or": [{"year": number} for number in range(1001)]}, FIELDS)
    with pytest.raises(TooLarge, match="10,000 values"):
        parse_filter({"id": {"$in": [str(number) for number in range(1_000_000)]}}, FIELDS)

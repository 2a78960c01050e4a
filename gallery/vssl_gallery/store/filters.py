"""Which rows of a gallery are meant: a small tree, parsed from JSON once and compiled by each driver.

    {"label": "shoe", "year": {"$gte": 2020}}        both must hold
    {"$or": [{"label": null}, {"label": {"$in": ["shoe", "boot"]}}]}

Every condition is true or false, never unknown: a comparison with a missing value is false, and `$ne` and `$not` are
the exact opposites of what they deny. So `{"year": {"$ne": 2020}}` holds for a row without a year. `null` means
missing. Texts compare by their code points, which is the order of their UTF-8 bytes.
"""

import math
import operator
import reprlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from vssl_gallery.errors import InvalidFilter, TooLarge
from vssl_gallery.store.columns import MAX_META_BYTES, UNFILTERED, FieldType, Kind, kinds

Value = str | int | float | bool | datetime
Order = Literal["gt", "gte", "lt", "lte"]

MAX_DEPTH = 8
MAX_CONDITIONS = 1000
MAX_VALUES = 10_000
"""Of all `$in` of a filter together."""

ORDERS: Mapping[str, Order] = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
OPERATORS = ("$eq", "$ne", *ORDERS, "$in", "$exists", "$and", "$or", "$not")


@dataclass(frozen=True)
class Equal:
    """The column is there and has this value."""

    column: str
    kind: Kind
    value: Value


@dataclass(frozen=True)
class Compare:
    """The column is there and on this side of the value."""

    column: str
    kind: Kind
    order: Order
    value: Value


@dataclass(frozen=True)
class In:
    """The column is there and has one of these values; with none of them nothing is meant."""

    column: str
    kind: Kind
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Exists:
    """The column is there."""

    column: str
    kind: Kind


@dataclass(frozen=True)
class And:
    """All hold; at least one part."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    """One or more hold; at least one part."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Filter"


Filter = Equal | Compare | In | Exists | And | Or | Not


def parse_filter(document: object, fields: Mapping[str, FieldType]) -> Filter | None:
    """The filter that a JSON document describes; None, which means every row, for None and `{}`.

    Raises:
        InvalidFilter: an unknown field or operator, a value of another type than its field, or too deep.
        TooLarge: more conditions or values than a filter may have.
    """
    if document is None or document == {}:
        return None
    return _Parser(kinds(fields)).tree(document, 1)


def ids(names: Sequence[str]) -> In:
    """The rows of these ids."""
    return In("id", "text", tuple(names))


def matches(where: Filter | None, row: Mapping[str, Any]) -> bool:
    """Whether the filter holds for a row, from column to value; a missing column is None. The drivers' oracle."""
    match where:
        case None:
            return True
        case Equal(column, _, value):
            return row.get(column) is not None and bool(row[column] == value)
        case Compare(column, _, order, value):
            return row.get(column) is not None and bool(_COMPARED[order](row[column], value))
        case In(column, _, values):
            return row.get(column) is not None and row[column] in values
        case Exists(column):
            return row.get(column) is not None
        case And(parts):
            return all(matches(part, row) for part in parts)
        case Or(parts):
            return any(matches(part, row) for part in parts)
        case Not(part):
            return not matches(part, row)


_COMPARED: Mapping[Order, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class _Parser:
    def __init__(self, columns: Mapping[str, Kind]) -> None:
        self._columns = columns
        self._conditions = self._values = 0

    def tree(self, document: object, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"filter: deeper than {MAX_DEPTH} levels")
        if not isinstance(document, Mapping) or not document:
            raise InvalidFilter(f"filter: {_shown(document)} where an object with a condition must be")
        return _all([self._entry(name, value, depth) for name, value in document.items()])

    def _entry(self, name: object, value: object, depth: int) -> Filter:
        if name == "$not":
            return Not(self.tree(value, depth + 1))
        if name in ("$and", "$or"):
            if not isinstance(value, list | tuple) or not value:
                raise InvalidFilter(f"filter: {name} takes a list of one or more objects, not {_shown(value)}")
            parts = tuple(self.tree(part, depth + 1) for part in value)
            return And(parts) if name == "$and" else Or(parts)
        if not isinstance(name, str) or name not in self._columns:
            raise InvalidFilter(self._unknown(name))
        if not isinstance(value, Mapping):
            return self._condition(name, "$eq", value)
        if not value:
            raise InvalidFilter(f"filter: {name}: an empty object; name an operator: {', '.join(OPERATORS[:8])}")
        return _all([self._condition(name, sign, operand) for sign, operand in value.items()])

    def _condition(self, column: str, sign: object, operand: object) -> Filter:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise TooLarge(f"filter: more than {MAX_CONDITIONS:,} conditions")
        kind = self._columns[column]
        if sign in ("$eq", "$ne"):
            same = Not(Exists(column, kind)) if operand is None else Equal(column, kind, self._value(column, operand))
            return same if sign == "$eq" else _opposite(same)
        if isinstance(sign, str) and sign in ORDERS:
            if kind == "boolean":
                raise InvalidFilter(f"filter: {column}: {sign} does not order true and false")
            return Compare(column, kind, ORDERS[sign], self._value(column, operand))
        if sign == "$in":
            return self._in(column, kind, operand)
        if sign == "$exists":
            if not isinstance(operand, bool):
                raise InvalidFilter(f"filter: {column}: $exists takes true or false, not {_shown(operand)}")
            return Exists(column, kind) if operand else Not(Exists(column, kind))
        raise InvalidFilter(f"filter: {column}: {_shown(sign)} is not one of {', '.join(OPERATORS[:8])}")

    def _in(self, column: str, kind: Kind, operand: object) -> In:
        if not isinstance(operand, list | tuple):
            raise InvalidFilter(f"filter: {column}: $in takes a list, not {_shown(operand)}")
        self._values += len(operand)
        if self._values > MAX_VALUES:
            raise TooLarge(f"filter: more than {MAX_VALUES:,} values in $in; ask in several requests")
        return In(column, kind, tuple(self._value(column, value) for value in operand))

    def _value(self, column: str, value: object) -> Value:
        kind = self._columns[column]
        try:
            return as_value(kind, value)
        except ValueError as error:
            raise InvalidFilter(f"filter: {column}: {error}") from None

    def _unknown(self, name: object) -> str:
        if isinstance(name, str) and name.startswith("$"):
            return f"filter: {_shown(name)} is not an operator here; those are {', '.join(OPERATORS)}"
        if name in UNFILTERED:
            return f"filter: column {name!r} can't be searched by; declare a field for what you search by"
        return f"filter: no field {_shown(name)}; there are {', '.join(self._columns)}"


def as_value(kind: Kind, value: object) -> Value:
    """A JSON value as one of that kind, the same that a column of it would hold.

    Raises:
        ValueError: it is of another kind, or out of its range.
    """
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "text" and isinstance(value, str):
        return _text(value)
    if kind == "time" and isinstance(value, str | date):
        return _time(value)
    if kind == "integer" and isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise ValueError("an integer of more than 64 bits")
        return value
    if kind in ("number", "single") and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(kind, value)
    raise ValueError(f"takes {_TAKES[kind]}, not {_shown(value)}")


_TAKES: Mapping[Kind, str] = {
    "boolean": "true or false",
    "text": "a text",
    "time": "a time such as 2026-05-01T12:00:00Z",
    "integer": "an integer",
    "number": "a number",
    "single": "a number",
}


def _text(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("a text that UTF-8 can't hold") from None
    if "\0" in value:
        raise ValueError("a text with a NUL character")
    if size > MAX_META_BYTES:
        raise ValueError(f"a text of more than {MAX_META_BYTES // 1024} kB")
    return value


def _number(kind: Kind, value: float) -> float:
    try:
        # Rounded as the column is, so that every database compares the same two numbers.
        number = struct.unpack("<f", struct.pack("<f", value))[0] if kind == "single" else float(value)
    except OverflowError:
        raise ValueError("a number out of range") from None
    if not math.isfinite(number):
        raise ValueError("a number that is not finite")
    return float(number + 0.0)  # −0 becomes 0: some databases tell them apart


def _time(value: str | date) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{_shown(value)} is not a time such as 2026-05-01T12:00:00Z") from None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time out of range") from None


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _opposite(part: Filter) -> Filter:
    return part.part if isinstance(part, Not) else Not(part)


def _shown(value: object) -> str:
    return reprlib.repr(value)  # short, and never deeper than it can go

"""Filters as Qdrant has them.

Its ranges are of float64, which holds integers up to 2⁵³ alone. So integers and times (as microseconds) are kept in two
halves of 32 bits beside themselves. It has no order of texts: `has_text_order` finds the filters that the store must
answer for itself.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from qdrant_client import models

from vssl_gallery.store.filters import And, Compare, Equal, Exists, Filter, In, Not, Or, Order, Value

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def compiled(where: Filter) -> models.Filter:
    """The filter, which compares no texts."""
    match where:
        case Equal(column, kind, value):
            return _equal(column, kind in ("number", "single"), value)
        case Compare(column, kind, order, value):
            if kind in ("integer", "time"):
                return _compared_halves(column, order, as_integer(value))
            return models.Filter(must=[_range(column, order, value)])
        case In(column, kind, values):
            if kind in ("text", "integer", "time"):
                plain: list[Any] = [value if isinstance(value, str) else as_integer(value) for value in values]
                anyone = models.MatchAny.model_construct(any=plain)
                return models.Filter(must=[models.FieldCondition(key=column, match=anyone)])
            return either([_equal(column, kind != "boolean", value) for value in values])
        case Exists(column):
            return models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=column))])
        case And(parts):
            return models.Filter(must=[compiled(part) for part in parts])
        case Or(parts):
            return either([compiled(part) for part in parts])
        case Not(part):
            return models.Filter(must_not=[compiled(part)])


def either(parts: list[models.Filter]) -> models.Filter:
    """One or more hold; none of none."""
    return models.Filter(should=list(parts)) if parts else models.Filter(must=[models.HasIdCondition(has_id=[])])


def has_text_order(where: Filter | None) -> bool:
    """Whether texts are compared by their order."""
    return any(isinstance(part, Compare) and part.kind == "text" for part in _leaves(where))


def columns_of(where: Filter | None) -> list[str]:
    """The columns that a filter looks at."""
    return list(dict.fromkeys(part.column for part in _leaves(where)))


def as_integer(value: Value) -> int:
    """An integer, or a time in microseconds."""
    return (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else int(value)


def halves(column: str, value: int) -> dict[str, int]:
    """What orders an integer of 64 bits among others."""
    return {_high(column): value >> 32, _low(column): value & 0xFFFFFFFF}


def half_names(column: str) -> tuple[str, str]:
    """The names of both."""
    return _high(column), _low(column)


def _high(column: str) -> str:
    return f"_high_{column}"


def _low(column: str) -> str:
    return f"_low_{column}"


def _equal(column: str, real: bool, value: Value) -> models.Filter:
    if real:
        span = models.Range(gte=float(value), lte=float(value))  # type: ignore[arg-type]
        return models.Filter(must=[models.FieldCondition(key=column, range=span)])
    plain: Any = as_integer(value) if isinstance(value, datetime) else value
    match = models.MatchValue.model_construct(value=plain)
    return models.Filter(must=[models.FieldCondition(key=column, match=match)])


def _range(column: str, order: Order, value: object) -> models.FieldCondition:
    return models.FieldCondition(key=column, range=models.Range(**{order: float(value)}))  # type: ignore[arg-type]


def _compared_halves(column: str, order: Order, value: int) -> models.Filter:
    wanted = halves(column, value)
    high, low = wanted[_high(column)], wanted[_low(column)]
    strict: Order = "gt" if order in ("gt", "gte") else "lt"
    same_high = _range(_high(column), "gte", high), _range(_high(column), "lte", high)
    return models.Filter(
        should=[
            _range(_high(column), strict, high),
            models.Filter(must=[*same_high, _range(_low(column), order, low)]),
        ]
    )


def _leaves(where: Filter | None) -> Iterator[Equal | Compare | In | Exists]:
    match where:
        case None:
            return
        case And(parts) | Or(parts):
            for part in parts:
                yield from _leaves(part)
        case Not(part):
            yield from _leaves(part)
        case _:
            yield where

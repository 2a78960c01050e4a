"""Filters as LanceDB's SQL. It has no parameters to bind, so this is the one place that writes values as text."""

from datetime import UTC, datetime, timedelta

from vssl_gallery.store.filters import And, Compare, Equal, Exists, Filter, In, Not, Or, Value

_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_sql(where: Filter | None) -> str:
    """The condition, in parentheses where it needs them. It is never null, so that NOT is an exact opposite."""
    match where:
        case None:
            return "true"
        case Equal(column, _, value):
            return f"({_name(column)} IS NOT NULL AND {_name(column)} = {literal(value)})"
        case Compare(column, _, order, value):
            return f"({_name(column)} IS NOT NULL AND {_name(column)} {_SIGNS[order]} {literal(value)})"
        case In(_, _, ()):
            return "false"
        case In(column, _, values):
            listed = ", ".join(map(literal, values))
            return f"({_name(column)} IS NOT NULL AND {_name(column)} IN ({listed}))"
        case Exists(column):
            return f"({_name(column)} IS NOT NULL)"
        case And(parts):
            return f"({' AND '.join(map(to_sql, parts))})"
        case Or(parts):
            return f"({' OR '.join(map(to_sql, parts))})"
        case Not(part):
            return f"(NOT {to_sql(part)})"


def literal(value: Value) -> str:
    """A value as SQL. Only a text can hold anything: its quotes are doubled, and nothing else is special in one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime):
        return f"arrow_cast({(value - _EPOCH) // timedelta(microseconds=1)}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
    if isinstance(value, float):
        return repr(value)
    return f"CAST('{value}' AS BIGINT)"  # as a text: the smallest integer is not the negative of another one


def _name(column: str) -> str:
    return f"`{column}`"  # a word, by `columns.check_fields`

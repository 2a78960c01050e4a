"""Filters as conditions in SQL: values are bound, columns are quoted.

SQL's comparisons with a missing value are unknown, and ours are false. The difference shows only below NOT, so that
alone is written as `IS NOT TRUE`; what stands above it may use the indexes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from vssl_gallery.store.columns import Kind
from vssl_gallery.store.filters import And, Compare, Equal, Exists, Filter, In, Not, Or, Order
from vssl_gallery.store.postgres.tables import column_name

CASTS: Mapping[Kind, sql.SQL] = {
    "text": sql.SQL("text"),
    "integer": sql.SQL("bigint"),
    "number": sql.SQL("double precision"),
    "boolean": sql.SQL("boolean"),
    "time": sql.SQL("timestamptz"),
    "single": sql.SQL("real"),
}

_SIGNS: Mapping[Order, sql.SQL] = {"gt": sql.SQL(">"), "gte": sql.SQL(">="), "lt": sql.SQL("<"), "lte": sql.SQL("<=")}


@dataclass
class Condition:
    """What follows WHERE, and the values that it binds."""

    where: Filter | None
    values: dict[str, object] = field(default_factory=dict)
    text: sql.Composable = field(init=False)

    def __post_init__(self) -> None:
        self.text = sql.SQL("true") if self.where is None else self._compiled(self.where)

    def _compiled(self, where: Filter) -> sql.Composable:
        match where:
            case Equal(column, kind, value):
                return sql.SQL("{} = {}::{}").format(column_name(column), self._bound(value), CASTS[kind])
            case Compare(column, kind, order, value):
                name = column_name(column)
                return sql.SQL("{} {} {}::{}").format(name, _SIGNS[order], self._bound(value), CASTS[kind])
            case In(column, kind, values):
                name = column_name(column)
                return sql.SQL("{} = ANY({}::{}[])").format(name, self._bound(list(values)), CASTS[kind])
            case Exists(column):
                return sql.SQL("{} IS NOT NULL").format(column_name(column))
            case And(parts):
                return sql.SQL("({})").format(sql.SQL(" AND ").join(self._compiled(part) for part in parts))
            case Or(parts):
                return sql.SQL("({})").format(sql.SQL(" OR ").join(self._compiled(part) for part in parts))
            case Not(part):
                return sql.SQL("(({}) IS NOT TRUE)").format(self._compiled(part))

    def _bound(self, value: object) -> sql.Placeholder:
        name = f"filter_{len(self.values)}"
        self.values[name] = value
        return sql.Placeholder(name)

"""The columns of a gallery's rows, as names and kinds: those that every gallery has, and the fields of its own."""

import re
from collections.abc import Mapping
from typing import Literal, get_args

from vssl_gallery.errors import InvalidName, TooLarge

FieldType = Literal["text", "integer", "number", "boolean", "time"]
"""UTF-8 text, 64 bits with sign, float64, true or false, and microseconds since 1970 in UTC."""

FIELD_TYPES: tuple[FieldType, ...] = get_args(FieldType)

Kind = Literal["text", "integer", "number", "boolean", "time", "single"]
"""What a filter can compare: a `FieldType`, or a float32."""

FIXED: Mapping[str, Kind] = {
    "id": "text",
    "path": "text",
    "sha256": "text",
    "size": "integer",
    "uncertainty": "single",
    "percentile": "single",
    "confidence": "single",
    "novelty": "single",
    "familiarity": "single",
    "degraded": "boolean",
    "ood": "boolean",
    "unfamiliar": "boolean",
    "precision": "text",
    "label": "text",
    "width": "integer",
    "height": "integer",
    "added_at": "time",
}
"""Columns of every gallery that filters can name."""

UNFILTERED = ("embedding", "variance", "meta", "thumbnail")
"""Columns of every gallery that filters can't name."""

RESERVED = ("key", "query", "similarity", "flags", "error")
"""Columns of answers and of snapshots, which no field may be named as."""

MAX_FIELDS = 64
MAX_NAME_BYTES = 1024
"""Of an id, a path and a label, in UTF-8."""
MAX_META_BYTES = 64 * 1024
"""Of a row's `meta`, and of each text field."""

GALLERY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
"""Short enough for a database to put two characters before it: PostgreSQL cuts names after 63."""


def kinds(fields: Mapping[str, FieldType]) -> dict[str, Kind]:
    """The kind of each column that filters can name."""
    return {**FIXED, **fields}


def check_gallery_name(name: str) -> str:
    """The name, if a gallery or an alias can have it.

    Raises:
        InvalidName: it can't.
    """
    if not GALLERY_NAME.fullmatch(name):
        raise InvalidName(
            f"gallery name {name[:80]!r}: take 1 to 64 of a-z, 0-9, - and _, and begin with a letter or a digit"
        )
    return name


def check_fields(fields: Mapping[str, FieldType]) -> None:
    """Refuse names and types that a gallery's fields can't have.

    Raises:
        InvalidName: a name that is taken, twice there but for case, or not a word; or an unknown type.
        TooLarge: more than 64 fields.
    """
    if len(fields) > MAX_FIELDS:
        raise TooLarge(f"{len(fields)} fields: a gallery has at most {MAX_FIELDS}; put the rest into the meta")
    taken = {name.lower() for name in (*FIXED, *UNFILTERED, *RESERVED)}
    for name, kind in fields.items():
        if not FIELD_NAME.fullmatch(name):
            raise InvalidName(f"field {name[:80]!r}: take 1 to 60 of A-Z, a-z, 0-9 and _, and begin with a letter")
        if name.lower() in taken:
            raise InvalidName(f"field {name!r}: every gallery has a column of that name, or it appears twice")
        if kind not in FIELD_TYPES:
            raise InvalidName(f"field {name!r}: type {kind!r} is not one of {', '.join(FIELD_TYPES)}")
        taken.add(name.lower())

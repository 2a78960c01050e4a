"""The JSON of every route: parsed, bounded in its lengths, and only then checked by a model.

A model makes an error of hundreds of bytes for each wrong element. A few hundred bytes of gzip could fill the memory
with them, so lists and objects are counted before a model sees them.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from vssl_server.wire.errors import ApiError, clipped, described, invalid_option

M = TypeVar("M", bound=BaseModel)
Refuse = Callable[[str, str], ApiError]
"""Makes an error from a message and the field at fault."""

BOM = b"\xef\xbb\xbf"
MAX_ELEMENTS = 64
"""The most keys of an object, or elements of a list, unless another number is given."""

_STEP = 2**20


def parse_object(
    body: bytes | memoryview,
    most_values: int | None = None,
    refuse: Refuse = invalid_option,
    nulls: bool = False,
) -> dict[str, Any]:
    """The JSON object that a body holds, without the keys whose value is null: null is absent.

    Args:
        body: UTF-8, perhaps after a byte order mark.
        most_values: an upper bound on the values of all depths. It refuses `[[],[],…` before that takes twenty times
            its bytes in memory. None: any number of values.
        refuse: makes the error where it is no object.
        nulls: keep these keys. A patch removes with them, as in RFC 7396.

    Raises:
        ApiError: 400, it is no JSON; 413, too many values; that of `refuse`.
    """
    if body[:3] == BOM:
        body = body[3:]
    if most_values is not None and _values(bytes(body), most_values) > most_values:
        raise ApiError(413, "body_too_large", f"the JSON holds more than {most_values:,} values")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise refuse("the body must be a JSON object", "body")
    return found if nulls else without_nulls(found)


def without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    """The keys that have a value."""
    return {key: value for key, value in fields.items() if value is not None}


def bounded(fields: Mapping[str, Any], most: Mapping[str, int] = {}, refuse: Refuse = invalid_option) -> None:
    """Refuse an object of many keys, and one with a list or an object of more elements than `most` says of its key.

    Raises:
        ApiError: that of `refuse`.
    """
    if len(fields) > MAX_ELEMENTS:
        raise refuse(f"an object has {len(fields):,} keys; {MAX_ELEMENTS} are the most", "body")
    for key, value in fields.items():
        limit = most.get(key, MAX_ELEMENTS)
        if isinstance(value, list | dict) and len(value) > limit:
            raise refuse(f"{clipped(key, 100)}: {len(value):,} elements; {limit:,} are the most", key)


def check(model: type[M], fields: Mapping[str, Any], refuse: Refuse = invalid_option) -> M:
    """The fields as a model; they are `bounded` already.

    Raises:
        ApiError: that of `refuse`.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise refuse(*described(problems)) from None


def _values(body: bytes, enough: int) -> int:
    """An upper bound on the number of values: every comma and bracket counts, in texts too. Counting stops at
    `enough`.
    """
    count = 1
    for start in range(0, len(body), _STEP):
        count += sum(body.count(mark, start, start + _STEP) for mark in (b",", b"[", b"{"))
        if count > enough:
            break
    return count

"""The options of `POST /v1/embed`: what to answer, and how it is written."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, get_args
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field

from vssl_server.wire.errors import invalid_option
from vssl_server.wire.json_body import MAX_ELEMENTS, bounded, check

FieldName = Literal["embedding", "variance", "uncertainty", "percentile", "confidence", "familiarity", "flags"]
ALL_FIELDS: tuple[FieldName, ...] = get_args(FieldName)
MAX_QUERY = 2048
"""Characters; the last queries are kept, with what they mean."""


class Options(BaseModel):
    """What to answer and how. In the JSON body or in the query; the body wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: list[FieldName] = Field(
        list(ALL_FIELDS), min_length=1, description="What to answer for each image; in a query separated by commas."
    )
    encoding: Literal["float", "base64", "float16"] = Field(
        "float",
        description="How vectors are written in JSON: numbers; base64 of little-endian float32; base64 of float16.",
    )
    model: str | None = Field(None, description="The name of a served model; by default the first one.")
    on_error: Literal["raise", "return"] = Field(
        "raise", description="One bad image fails the request (422), or gets its `error` in its place."
    )


@lru_cache(256)
def options_of(query: bytes) -> Options:
    """The options in a query string; the same ones come again and again.

    Raises:
        ApiError: 422, an option or value that is not known.
    """
    if len(query) > MAX_QUERY:
        raise invalid_option(f"the query is over {MAX_QUERY:,} characters", "query")
    try:
        values = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_ELEMENTS)
    except ValueError:
        raise invalid_option(f"the query has over {MAX_ELEMENTS} parameters", "query") from None
    given: dict[str, Any] = {name: them[-1] for name, them in values.items()}
    if "fields" in values:  # fields=embedding,variance is the same as fields=embedding&fields=variance
        given["fields"] = ",".join(values["fields"]).split(",")
    return checked_options(given)


def checked_options(given: Mapping[str, Any]) -> Options:
    """The options in a query or in a body; ApiError 422 where one is not known."""
    bounded(given)
    return check(Options, given)

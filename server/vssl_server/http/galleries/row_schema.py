"""What `/openapi.json` says of a gallery's rows, and of what is asked of them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from vssl_server.http.galleries.schema import REFUSALS, PathBody, route
from vssl_server.http.schema import Flags, nullable


class Row(BaseModel):
    """A row, of the columns that were asked for."""

    id: str
    path: str | None = None
    label: str | None = None
    uncertainty: float | None = None
    percentile: float | None = None
    confidence: float | None = None
    novelty: float | None = None
    familiarity: float | None = None
    flags: dict[str, bool | None] | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    sha256: str | None = None
    precision: str | None = None
    added_at: datetime | None = None
    meta: Any = None
    fields: dict[str, Any] = Field({}, description="The gallery's own")
    embedding: list[float] | None = None
    variance: list[float] | None = None


class RowList(BaseModel):
    """A page of rows."""

    data: list[Row]
    next: str | None
    version: int


class Written(BaseModel):
    """The version that has what was written, and how many rows that were."""

    version: int
    rows: int


class Deleted(Written):
    """The same; with `dry_run` nothing was deleted."""

    dry_run: bool


class Count(BaseModel):
    """Rows of one value; null: without one."""

    value: str | int | bool | None
    rows: int


class Counts(BaseModel):
    """`data` where a column was named, the commonest first; else `rows`."""

    by: str | None = None
    data: list[Count] | None = None
    rows: int | None = None
    version: int


class Histogram(BaseModel):
    """Rows between each two edges."""

    column: str
    edges: list[float]
    rows: list[int]
    nulls: int
    version: int


class AddedImage(BaseModel):
    """What became of an image; with `error` it is not in the gallery."""

    index: int
    id: str
    name: str | None
    uncertainty: float | None = None
    percentile: float | None = None
    confidence: float | None = None
    familiarity: float | None = None
    flags: Flags | None = None
    error: dict[str, str] | None = None


class AddedImages(BaseModel):
    """One item for each image, in order; the gallery has them from `version` on."""

    version: int
    data: list[AddedImage]


class Resembles(BaseModel):
    """A kind of degradation, and how often it is told rightly."""

    kind: str
    accuracy: float


class QueryInfo(BaseModel):
    """What is known of the image that was asked."""

    uncertainty: float | None
    percentile: float | None
    confidence: float | None
    familiarity: float | None
    flags: dict[str, bool | None] | None
    resembles: Resembles | None


class Neighbour(Row):
    """A row that was found."""

    similarity: float
    score: float | None = None


class Near(BaseModel):
    """The rows nearest to one query."""

    index: int
    query: QueryInfo
    neighbours: list[Neighbour]


class Searched(BaseModel):
    """The answer to a search; `exact`: nothing was left to an index. `timing` is in milliseconds."""

    version: int
    exact: bool
    data: list[Near]
    timing: dict[str, float]


class Similar(BaseModel):
    """A row that voted."""

    id: str
    similarity: float


class Label(BaseModel):
    """What the gallery says of one query."""

    index: int
    query: QueryInfo
    label: str | None
    p_correct: float | None
    interval: list[float] | None = Field(description="95 %, of `p_correct`")
    prediction_set: list[str] | None
    action: Literal["accept", "review", "abstain"]
    reason: str | None = Field(description="Of an abstention")
    neighbours: list[Similar]


class Labelled(BaseModel):
    """One item for each query."""

    version: int
    exact: bool
    calibration: str
    data: list[Label]
    timing: dict[str, float]


BINARY = {"type": "string", "format": "binary"}


def asking(summary: str, answer: type[BaseModel], body: type[BaseModel]) -> dict[str, Any]:
    """What is said of a route that is asked by JSON, by one image, or by a form of images."""
    said = route(summary, answer, body=body)
    said["openapi_extra"]["requestBody"]["required"] = True
    said["openapi_extra"]["requestBody"]["content"] |= _IMAGES
    return said


_IMAGES: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["images"],
            "properties": {"images": {"type": "array", "minItems": 1, "items": BINARY}},
        }
    },
    **{kind: {"schema": BINARY} for kind in ("image/*", "application/octet-stream")},
}
_ITEM = {
    "anyOf": [
        {"type": "string", "description": "Base64, or a data URI"},
        nullable(
            {
                "type": "object",
                "required": ["data"],
                "properties": {
                    "data": {"type": "string"},
                    "name": {"type": "string", "maxLength": 1024},
                    "id": {"type": "string", "description": "By default the name, or the SHA-256 where there is none"},
                    "label": {"type": "string"},
                    "meta": {"description": "Any JSON, up to 64 kB"},
                    "fields": {"type": "object", "description": "The gallery's own fields"},
                },
            }
        ),
    ]
}
ADD: dict[str, Any] = asking("Add images", AddedImages, PathBody)
"""`POST …/images`."""
ADD["openapi_extra"]["requestBody"]["content"]["application/json"] = {
    "schema": {
        "type": "object",
        "required": ["images"],
        "properties": {
            "images": {"type": "array", "minItems": 1, "items": _ITEM},
            "on_error": {"type": "string", "enum": ["raise", "return"], "default": "raise"},
        },
    }
}
ADD_ROWS: dict[str, Any] = route("Add rows that are embedded already", Written) | {
    "openapi_extra": {
        "requestBody": {"required": True, "content": {"application/vnd.apache.arrow.stream": {"schema": BINARY}}}
    }
}
"""`POST …/rows`."""

THUMBNAIL: dict[str, Any] = {
    "summary": "A small picture of a row",
    "tags": ["galleries"],
    "responses": {
        **REFUSALS,
        200: {"description": "A JPEG", "content": {"image/jpeg": {}}},
        304: {"description": "It is the one whose ETag was sent"},
    },
}
"""`GET …/thumbnail`."""

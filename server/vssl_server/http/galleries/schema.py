"""What `/openapi.json` says of galleries."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from vssl_gallery.store.columns import FieldType
from vssl_server.background.jobs import Kind, State
from vssl_server.http.schema import ErrorBody, errors

REFUSALS: dict[int | str, dict[str, Any]] = {
    **errors(401, 403, 408, 413, 422, 429, 500, 504),
    400: {
        "description": "A name, a filter or a row that no gallery takes, or a body that can't be read",
        "model": ErrorBody,
    },
    404: {"description": "No such gallery for this key, or nothing of that name in it", "model": ErrorBody},
    409: {"description": "It is there already, of another encoder, or not at that version", "model": ErrorBody},
    415: {"description": "A type of body, or a compression, that is not read", "model": ErrorBody},
    421: {"description": "`Host` is none of this server's names", "model": ErrorBody},
    503: {"description": "The store does not answer, or the server is stopping", "model": ErrorBody},
    507: {"description": "The store's disk is full", "model": ErrorBody},
}
"""What any route of galleries may answer."""


class GalleryInfo(BaseModel):
    """A gallery, as a key may see it."""

    name: str
    model: str
    model_version: str
    encoder_id: str
    bundle_id: str
    dimension: int
    fields: dict[str, FieldType]
    keep_thumbnails: bool
    rows: int
    version: int
    indexed_rows: int
    recall: float | None = Field(description="Share of the true 10 nearest that the index finds, as measured")
    bytes: int | None
    calibration: Literal["fitted", "uncalibrated", "stale"]
    classes: int | None
    labelled: int
    aliases: list[str]
    scopes: list[Literal["search", "write"]] = Field(description="What the key may do with it")
    served: bool = Field(description="A model of its encoder is served here, so that images can be asked")


class GalleryList(BaseModel):
    """Those that the key may see."""

    data: list[GalleryInfo]
    next: str | None


class NewGallery(BaseModel):
    """The body of `PUT /v1/galleries/{name}`."""

    model_config = {"extra": "forbid"}

    model: str | None = Field(None, description="A served model, whose embeddings it will hold; by default the first")
    fields: dict[str, FieldType] = Field({}, description="What rows have beside the fixed columns, and filters name")
    keep_thumbnails: bool = Field(True, description="Keep a small picture beside each row")


class Rows(BaseModel):
    """How many."""

    rows: int


class AliasTarget(BaseModel):
    """The body of `PUT /v1/aliases/{name}`."""

    model_config = {"extra": "forbid"}

    gallery: str


class Alias(BaseModel):
    """A name that means a gallery."""

    alias: str
    gallery: str


class AliasList(BaseModel):
    """Those of galleries that the key may see."""

    data: list[Alias]
    next: str | None


class AliasName(BaseModel):
    """One that is gone."""

    alias: str


class DuplicateGroup(BaseModel):
    """Rows that show the same thing; `similarity` is the least cosine of one of them to `kept`."""

    kept: str
    others: list[str]
    similarity: float


class DuplicateList(BaseModel):
    """Groups, the largest first."""

    data: list[DuplicateGroup]
    next: str | None
    version: int


class Odd(BaseModel):
    """`distance` is 1 − the mean cosine to the 10 nearest others."""

    id: str
    distance: float
    novelty: float | None
    familiarity: float | None


class OutlierList(BaseModel):
    """The most distant first."""

    data: list[Odd]
    next: str | None
    version: int


class Picked(BaseModel):
    """Ids, the most useful first."""

    data: list[str]
    version: int


class JobError(BaseModel):
    """Why it failed."""

    code: str
    message: str


class Job(BaseModel):
    """Work on a gallery. `progress` is null as long as nobody knows."""

    id: str
    kind: Kind
    gallery: str
    state: State
    progress: float | None
    created_at: datetime
    finished_at: datetime | None
    result: dict[str, Any] | None
    error: JobError | None


class JobList(BaseModel):
    """The newest first."""

    data: list[Job]


class JobBegun(BaseModel):
    """The answer of what starts a job."""

    job: Job


class PathBody(BaseModel):
    """Where a snapshot or a folder of embeddings lies: under `--snapshot-root`."""

    model_config = {"extra": "forbid"}

    path: str = Field(min_length=1, max_length=1024)


class NoBody(BaseModel):
    """Nothing."""

    model_config = {"extra": "forbid"}


def route(
    summary: str, answer: type[BaseModel], status: int = 200, body: type[BaseModel] | None = None
) -> dict[str, Any]:
    """What is said of a route that answers JSON, and takes it where there is a body."""
    said: dict[str, Any] = {
        "summary": summary,
        "tags": ["galleries"],
        "responses": {**REFUSALS, status: {"description": "The answer", "model": answer}},
        "status_code": status,
    }
    if body is not None:
        content = {"application/json": {"schema": body.model_json_schema()}}
        said["openapi_extra"] = {
            "requestBody": {"content": content, "required": bool(body.model_json_schema().get("required"))}
        }
    return said


MAP: dict[str, Any] = {
    "summary": "The gallery in two dimensions",
    "tags": ["galleries"],
    "responses": {
        **REFUSALS,
        200: {
            "description": "A line of JSON, then arrays of little-endian numbers; docs/gallery-keys.md has the form",
            "content": {"application/octet-stream": {}},
        },
    },
}
"""`GET …/map`."""

EXPORT: dict[str, Any] = {
    "summary": "The rows as a file",
    "tags": ["galleries"],
    "responses": {
        **REFUSALS,
        200: {"description": "The file", "content": {"text/csv": {}, "application/vnd.apache.parquet": {}}},
    },
}
"""`GET …/export`."""

CREATE: dict[str, Any] = route("Create a gallery", GalleryInfo, 201, NewGallery)
"""`PUT /v1/galleries/{name}`."""
CREATE["responses"][200] = {"description": "It was there already", "model": GalleryInfo}

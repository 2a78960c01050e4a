"""What galleries say over HTTP, as bytes and data classes: pure functions."""

import json
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from vssl.errors import UsageError, VsslError
from vssl_client.errors import BadAnswer, ClientError, ImageRejected
from vssl_client.galleries.answers import (
    Added,
    AddedImage,
    Classification,
    Classified,
    Neighbour,
    Neighbours,
    QueryInfo,
    Row,
    SearchAnswer,
    of,
)
from vssl_client.galleries.asked import ClassifyQuery, Item, Query, SearchQuery
from vssl_gallery import errors as gallery_errors

Document = Mapping[str, Any]

ERRORS: Mapping[str, type[VsslError]] = {
    **{kind.code: kind for kind in gallery_errors.GalleryError.__subclasses__()},
    "invalid_option": UsageError,
}
"""The errors of galleries by their codes: the same ones as of a gallery in this process."""


def as_gallery_error(error: ClientError) -> VsslError:
    """The error of galleries that a server's answer means, or else itself."""
    found = problem(getattr(error, "code", None), str(error))
    return error if found is None else found


def problem(code: str | None, message: str) -> VsslError | None:
    """The error of that code, if it is one of galleries."""
    kind = ERRORS.get(code or "")
    return None if kind is None else kind(message)


def parsed(body: bytes) -> Any:  # noqa: ANN401 — JSON
    """An answer in JSON.

    Raises:
        BadAnswer: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"a gallery's answer is no JSON ({error}); is it a VSSL server?") from error


def as_body(document: object) -> bytes:
    """JSON as it is sent; times as ISO 8601.

    Raises:
        UsageError: it holds what JSON can't, such as NaN.
    """
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, default=_plain).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"can't be sent as JSON: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")


def images_body(items: Sequence[Item], images: Sequence[bytes], ids: Sequence[str]) -> tuple[bytes, str]:
    """Images with what is known of each as a multipart body, and its content type."""
    boundary = secrets.token_hex(16)
    rows = [
        {"id": id, "label": item.label, "meta": item.meta, "fields": dict(item.fields)}
        for item, id in zip(items, ids, strict=True)
    ]
    known = [{name: value for name, value in row.items() if value not in (None, {})} for row in rows]
    parts = [_part(boundary, 'name="rows"', b"application/json"), as_body(known), b"\r\n"]
    for image in images:
        parts += [_part(boundary, 'name="images"; filename="image"', b"application/octet-stream"), image, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _part(boundary: str, about: str, kind: bytes) -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; {about}\r\nContent-Type: ".encode()
    return head + kind + b"\r\n\r\n"


def query_body(query: Query, images: Sequence[bytes]) -> dict[str, Any]:
    """A query, with its images as they were read; keys at their default are left out."""
    vectors = query.arrays()
    body: dict[str, Any] = {}
    if images:
        body["images"] = [b64encode(image).decode() for image in images]
    elif query.vector is not None and vectors is not None:
        body["vector"] = vectors[0].tolist()
    elif vectors is not None:
        body["vectors"] = vectors.tolist()
    else:
        body["ids"] = query.names()
    options: dict[str, Any] = {
        "uncertainty": query.uncertainty,
        "filter": query.where,
        "min_version": query.min_version,
    }
    if isinstance(query, SearchQuery):
        options |= {"k": query.k, "exact": query.exact, "columns": list(query.columns) or None, "score": query.score}
        options |= {"exclude_self": query.exclude_self or None}
    if isinstance(query, ClassifyQuery):
        options |= {"alpha": query.alpha, "risk": query.risk}
    return body | {name: value for name, value in options.items() if value is not None}


def read_added(answer: Document, items: Sequence[Item], ids: Sequence[str]) -> Added:
    """What became of each image."""
    images = []
    for item, id, row in zip(items, ids, answer["data"], strict=True):
        wrong = row.get("error")
        error = None if wrong is None else ImageRejected(wrong["type"], wrong["message"], item.index, id)
        images.append(of(AddedImage, row, index=item.index, id=id, error=error))
    return Added(answer["version"], images)


def read_search(answer: Document) -> SearchAnswer:
    """The neighbours of each query."""
    results = []
    for row in answer["data"]:
        neighbours = [of(Neighbour, one, row=Row.of(one)) for one in row["neighbours"]]
        results.append(Neighbours(of(QueryInfo, row.get("query") or {}), neighbours))
    return SearchAnswer(answer["version"], answer["exact"], results)


def read_classification(answer: Document) -> Classification:
    """What is said of each query."""
    results = []
    for row in answer["data"]:
        interval = row.get("interval")
        about: dict[str, Any] = {
            "query": of(QueryInfo, row.get("query") or {}),
            "interval": None if interval is None else (interval[0], interval[1]),
            "neighbours": [of(Neighbour, one) for one in row["neighbours"]],
        }
        results.append(of(Classified, row, **about))
    return Classification(answer["version"], answer["exact"], answer["calibration"], results)

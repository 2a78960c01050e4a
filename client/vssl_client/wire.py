"""`POST /v1/embed` and `GET /v1/models` as bytes: pure functions, the same whatever carries them.

Images go out as they are, as parts of one multipart body; vectors come back as base64 of little-endian float32 in
JSON. No number is written out in digits, and every image can have an error of its own.
"""

import base64
import json
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from vssl.calibration import FLAGS
from vssl_client.errors import BadAnswer, ImageRejected
from vssl_client.result import EmbeddingResult, Flags, Floats, ModelInfo, all_failed, filled

EMBED, MODELS = "/v1/embed?encoding=base64&on_error=return", "/v1/models"
Row = dict[str, Any]


def embed_body(images: Sequence[bytes]) -> tuple[bytes, str]:
    """The body and its Content-Type for at least one encoded image."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="image"\r\n\r\n'.encode()
    parts = [piece for image in images for piece in (head, image, b"\r\n")]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def read_embeddings(body: bytes, images: int) -> EmbeddingResult:
    """The answer to `images` images.

    Raises:
        BadAnswer: it is not what a VSSL server answers.
    """
    try:
        answer = json.loads(body)
        rows, model, version = answer["data"], _text(answer["model"]), _text(answer["version"])
        if [row["index"] for row in rows] != list(range(images)):
            raise ValueError(f"{len(rows)} rows for {images} images, or in another order")
        errors = [_error(row) for row in rows]
        good = [row for row in rows if "error" not in row]
        if not good:
            return all_failed(errors, model, version)
        embedding, variance = _vectors(good, "embedding"), _vectors(good, "variance")
        if embedding.shape != variance.shape:
            raise ValueError("embedding and variance differ in size")
        uncertainty = np.array([row["uncertainty"] for row in good], np.float32)
        percentile, confidence = _numbers(good, "percentile"), _numbers(good, "confidence")
        return filled(errors, model, version, embedding, variance, uncertainty, percentile, confidence, _flags(good))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadAnswer(
            f"/v1/embed gave no valid answer ({type(error).__name__}: {error}); is it a VSSL server?"
        ) from error


def read_model(body: bytes) -> ModelInfo:
    """The served model, the first one if there are several.

    Raises:
        BadAnswer: it is not what a VSSL server answers.
    """
    try:
        row = json.loads(body)["data"][0]
        name, version, bundle = (_text(row[key]) for key in ("id", "version", "bundle_id"))
        return ModelInfo(name, version, bundle, int(row["dimension"]), int(row["image_size"]))
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise BadAnswer(
            f"{MODELS} gave no valid answer ({type(error).__name__}: {error}); is it a VSSL server?"
        ) from error


def read_problem(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, type and code of an error answer; whatever else came is quoted in short."""
    try:
        error = json.loads(body)["error"]
        return _text(error["message"]), error.get("type"), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return body[:200].decode(errors="replace").strip() or "no reason given", None, None


def _error(row: Row) -> ImageRejected | None:
    error = row.get("error")
    return None if error is None else ImageRejected(_text(error["type"]), _text(error["message"]))


def _text(value: object) -> str:
    # JSON can spell half a surrogate pair, which is no valid text and could not be stored.
    return str(value).encode(errors="replace").decode()


def _vectors(rows: list[Row], name: str) -> Floats:
    flat = np.frombuffer(b"".join([base64.b64decode(row[name], validate=True) for row in rows]), "<f4")
    return flat.reshape(len(rows), -1)


def _numbers(rows: list[Row], name: str) -> Floats | None:
    values = [row.get(name) for row in rows]
    if all(value is None for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float32)


def _flags(rows: list[Row]) -> Flags | None:
    values = [row.get("flags") for row in rows]
    if all(value is None for value in values):
        return None
    return {name: np.array([bool(value and value[name]) for value in values]) for name in FLAGS}

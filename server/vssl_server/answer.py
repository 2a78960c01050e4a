"""Results of `POST /v1/embed` → JSON, `.npz`, or an Arrow stream."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from vssl.bundle import Manifest
from vssl_server.errors import ApiError
from vssl_server.model import Result
from vssl_server.request import Image, Options

JSON, NPZ, ARROW = "application/json", "application/x-npz", "application/vnd.apache.arrow.stream"
VECTORS = ("embedding", "variance")
MEASURED = (*VECTORS, "uncertainty")
"""What the model answers; the other fields need a calibration, and are null without one."""

Writer = Callable[[Manifest, Sequence[Image], Options, Result], bytes]


def to_json(manifest: Manifest, images: Sequence[Image], options: Options, result: Result) -> bytes:
    """`{"model", "version", "data": […]}`, one item for each image, in the order of the request."""
    columns = {name: _json_column(name, options, result) for name in options.fields}
    data: list[dict[str, Any]] = []
    row = 0
    for index, image in enumerate(images):
        item: dict[str, Any] = {"index": index, "name": image.name}
        if refusal := result.refused.get(index):
            item["error"] = {"type": refusal.type, "message": refusal.message}
        else:
            item.update({name: None if column is None else column[row] for name, column in columns.items()})
            row += 1
        data.append(item)
    answer = {"model": manifest.name, "version": manifest.version, "data": data}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _json_column(name: str, options: Options, result: Result) -> Sequence[Any] | npt.NDArray[np.float32] | None:
    if name not in MEASURED:
        return None
    values: npt.NDArray[np.float32] = getattr(result.answer.embeddings, name)
    if name not in VECTORS or options.encoding == "float":
        return values
    return [base64.b64encode(row).decode() for row in values.astype("<f2" if options.encoding == "float16" else "<f4")]


def to_npz(manifest: Manifest, images: Sequence[Image], options: Options, result: Result) -> bytes:
    """Arrays of one row an image, NaN where it was refused: the chosen ones of `embedding` [N, D], `variance` [N, D]
    and `uncertainty` [N]; `name`, `error_type` and `error_message` [N], empty where there is none; `model`, `version`.
    """
    arrays: dict[str, Any] = {"model": manifest.name, "version": manifest.version}
    for key, column in _texts(images, result).items():
        arrays[key] = np.array([text or "" for text in column], np.str_)
    arrays |= _arrays(len(images), options, result)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def to_arrow(manifest: Manifest, images: Sequence[Image], options: Options, result: Result) -> bytes:
    """An Arrow IPC stream of one table with the columns of `to_npz`, null in place of NaN and of empty text.

    Raises:
        ApiError: 406, pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise ApiError(406, "not_acceptable", f"{ARROW}: this server has no pyarrow installed") from None
    refused = np.array([index in result.refused for index in range(len(images))])
    columns = {key: pa.array(column, pa.string()) for key, column in _texts(images, result).items()}
    for key, array in _arrays(len(images), options, result).items():
        values = pa.array(array.ravel())
        if array.ndim == 1:
            columns[key] = pa.array(array, mask=refused)
        else:
            columns[key] = pa.FixedSizeListArray.from_arrays(values, array.shape[1], mask=pa.array(refused))
    table = pa.table(columns).replace_schema_metadata({"model": manifest.name, "version": manifest.version})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _texts(images: Sequence[Image], result: Result) -> dict[str, list[str | None]]:
    refusals = [result.refused.get(index) for index in range(len(images))]
    return {
        "name": [image.name for image in images],
        "error_type": [refusal.type if refusal else None for refusal in refusals],
        "error_message": [refusal.message if refusal else None for refusal in refusals],
    }


def _arrays(images: int, options: Options, result: Result) -> dict[str, npt.NDArray[Any]]:
    good = [index for index in range(images) if index not in result.refused]
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in MEASURED:
        if name in options.fields:
            values: npt.NDArray[np.float32] = getattr(result.answer.embeddings, name)
            kind = np.float16 if name in VECTORS and options.encoding == "float16" else np.float32
            arrays[name] = np.full((images, *values.shape[1:]), np.nan, kind)
            arrays[name][good] = values
    return arrays


WRITERS: dict[str, Writer] = {JSON: to_json, NPZ: to_npz, ARROW: to_arrow}


def negotiate(accept: str | None) -> str:
    """The media type to answer in: the one that `Accept` wants most, JSON if it does not say.

    Raises:
        ApiError: 406, none of ours is accepted.
    """
    wanted = [_preference(part) for part in (accept or "*/*").split(",") if part.strip()]
    for kind, quality in sorted(wanted, key=lambda pair: -pair[1]):
        if quality > 0:
            for ours in WRITERS:
                if kind in (ours, "*/*", ours.partition("/")[0] + "/*"):
                    return ours
    raise ApiError(406, "not_acceptable", f"Accept {accept}: this server answers {', '.join(WRITERS)}")


def _preference(part: str) -> tuple[str, float]:
    kind, *parameters = (text.strip().lower() for text in part.split(";"))
    quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 0.0

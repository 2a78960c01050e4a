"""Results of `POST /v1/embed` → JSON, `.npz`, `.npy`, or an Arrow stream."""

import io
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from vssl.bundle.manifest import Manifest
from vssl.engine import OUTPUTS
from vssl.uncertainty.calibrated import FLAGS
from vssl_server.engine.model import Model
from vssl_server.engine.pipeline import EmbedResult
from vssl_server.http.calibration import calibrated
from vssl_server.http.embed.options import Options
from vssl_server.wire.errors import ApiError
from vssl_server.wire.tensors import NPY, base64_rows

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
NPZ = "application/x-npz"
MAX_ACCEPT = 1000
"""Characters of the header that are read."""

_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
VECTORS = ("embedding", "variance")

Names = Sequence[str | None]
"""What the request calls its images, one for each."""
Writer = Callable[[Model, Names, Options, EmbedResult], bytes]


def to_json(model: Model, names: Names, options: Options, result: EmbedResult) -> bytes:
    """`{"model", "version", "bundle_id", "data": […]}`, one item for each image, in the order of the request."""
    columns = {name: _json_column(column, options) for name, column in _columns(model, options, result).items()}
    data: list[dict[str, Any]] = []
    row = 0
    for index, name in enumerate(names):
        item: dict[str, Any] = {"index": index, "name": name}
        if refusal := result.refused.get(index):
            item["error"] = {"type": refusal.type, "message": refusal.message}
        else:
            item.update({field: None if column is None else column[row] for field, column in columns.items()})
            row += 1
        data.append(item)
    answer = {**_origin(model.manifest), "data": data}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _origin(manifest: Manifest) -> dict[str, str]:
    """Which bundle made the numbers: a client must not mix those of two."""
    return {"model": manifest.name, "version": manifest.version, "bundle_id": manifest.id}


def _columns(model: Model, options: Options, result: EmbedResult) -> dict[str, Any]:
    """The chosen fields: arrays or lists of one row for each good image, or None."""
    embeddings = result.embeddings
    measured = {name: getattr(embeddings, name) for name in OUTPUTS}
    known = measured if set(options.fields) <= measured.keys() else measured | calibrated(model, embeddings)
    return {name: known[name] for name in options.fields}


def _json_column(column: Any, options: Options) -> Any:  # noqa: ANN401 — rows that JSON can hold
    if not isinstance(column, np.ndarray) or column.ndim == 1 or options.encoding == "float":
        return column
    return base64_rows(column, "<f2" if options.encoding == "float16" else "<f4")


def to_npz(model: Model, names: Names, options: Options, result: EmbedResult) -> bytes:
    """Arrays of one row an image, NaN where it was refused: the chosen ones of `embedding` [N, D], `variance` [N, D]
    and `uncertainty` [N]; of `percentile`, `confidence`, `familiarity` [N] and `flags_NAME` bool [N] those that the
    bundle's calibration gives; `name`, `error_type` and `error_message` [N], empty where there is none; `model`,
    `version`, `bundle_id`.
    """
    arrays: dict[str, Any] = dict(_origin(model.manifest))
    for key, column in _texts(names, result).items():
        arrays[key] = np.array([text or "" for text in column], np.str_)
    arrays |= _arrays(model, len(names), options, result)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def to_npy(model: Model, names: Names, options: Options, result: EmbedResult) -> bytes:
    """The array `embedding` [N, D] alone, NaN where an image was refused."""
    file = io.BytesIO()
    chosen = options.model_copy(update={"fields": ["embedding"]})
    np.save(file, _arrays(model, len(names), chosen, result)["embedding"])
    return file.getvalue()


def to_arrow(model: Model, names: Names, options: Options, result: EmbedResult) -> bytes:
    """An Arrow IPC stream of one table with the columns of `to_npz`, null in place of NaN and of empty text.

    Raises:
        ApiError: 406, pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise ApiError(406, "not_acceptable", f"{ARROW}: this server has no pyarrow installed") from None
    refused = np.array([index in result.refused for index in range(len(names))])
    columns = {key: pa.array(column, pa.string()) for key, column in _texts(names, result).items()}
    for key, array in _arrays(model, len(names), options, result).items():
        values = pa.array(array.ravel())
        if array.ndim == 1:
            columns[key] = pa.array(array, mask=refused)
        else:
            columns[key] = pa.FixedSizeListArray.from_arrays(values, array.shape[1], mask=pa.array(refused))
    table = pa.table(columns).replace_schema_metadata(_origin(model.manifest))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _texts(names: Names, result: EmbedResult) -> dict[str, list[str | None]]:
    refusals = [result.refused.get(index) for index in range(len(names))]
    return {
        "name": list(names),
        "error_type": [refusal.type if refusal else None for refusal in refusals],
        "error_message": [refusal.message if refusal else None for refusal in refusals],
    }


def _arrays(model: Model, images: int, options: Options, result: EmbedResult) -> dict[str, npt.NDArray[Any]]:
    good = [index for index in range(images) if index not in result.refused]
    columns = _columns(model, options, result)
    flags = columns.pop("flags", None)
    if flags is not None:
        columns |= {f"flags_{name}": np.array([row[name] for row in flags], np.bool_) for name in FLAGS}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, values in columns.items():
        if values is not None:
            kind = np.float16 if name in VECTORS and options.encoding == "float16" else values.dtype
            arrays[name] = np.full((images, *values.shape[1:]), False if kind == np.bool_ else np.nan, kind)
            arrays[name][good] = values
    return arrays


WRITERS: dict[str, Writer] = {JSON: to_json, NPZ: to_npz, NPY: to_npy, ARROW: to_arrow}


def negotiate(accept: str | None) -> str:
    """The media type that `Accept` prefers; JSON if there is no such header.

    For each of our types the most specific range that fits counts, as RFC 9110 says: `application/json;q=0, */*`
    accepts all but JSON. Among equals the type that is named most precisely wins, then the one named first.

    Raises:
        ApiError: 406, none of ours is accepted.
    """
    return _negotiated((accept or "*/*")[:MAX_ACCEPT])


@lru_cache(256)
def _negotiated(accept: str) -> str:
    ranges: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.split(",")):
        kind, quality = _range(part)
        ranges.setdefault(kind, (quality, -place))

    def wanted(ours: str) -> tuple[float, int, int]:
        for precise, pattern in ((2, ours), (1, f"{ours.partition('/')[0]}/*"), (0, "*/*")):
            if pattern in ranges:
                quality, place = ranges[pattern]
                return quality, precise, place
        return 0.0, 0, 0

    best = max(WRITERS, key=wanted)  # the first of several
    if wanted(best)[0] == 0:
        raise ApiError(406, "not_acceptable", f"this server answers {', '.join(WRITERS)}; Accept is {accept}")
    return best


def _range(part: str) -> tuple[str, float]:
    """A media range and its quality; 0 where that is not from 0 to 1 with three digits."""
    kind, *parameters = (text.strip().lower() for text in part.split(";"))
    quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    return kind, float(quality) if _QUALITY.fullmatch(quality) else 0.0

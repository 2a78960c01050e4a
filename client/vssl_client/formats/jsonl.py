"""Parts as JSON Lines: one object an image, with the columns of `parquet` and the origin of the rows.

`path`, `sha256`, `size`, `label`, `uncertainty`, `percentile`, `confidence`, `familiarity`, `flags`, `error`, `model`,
`version`, `id`, `source`, `dimension`, then `embedding` and `variance`, lists of D numbers; null where there is none.

Most of a part is vectors, and a job that goes on needs the other columns only: `.part-000000.heads` holds those of
`part-000000.jsonl`, one a line. It may be deleted.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vssl.arrays import Float32s
from vssl.files import atomic_write
from vssl.uncertainty.calibrated import FLAGS, NUMBERS
from vssl_client.formats.columns import ABOUT, LATER, TEXTS, Columns, Origin, checked, missing_vectors, reading
from vssl_client.formats.contract import PART

SUFFIX = ".jsonl"
VECTORS = b', "embedding": '
"""The head of a line, before this, can be read without the numbers, most of the line."""

VECTORS_TOO = frozenset({"embedding", "variance"})


def write_part(file: Path, origin: Origin, columns: Columns) -> None:
    """Write one part with all columns, whole or not at all, and beside it a hidden file without the vectors.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    heads: list[dict[str, Any]] = []
    with atomic_write(file) as sink:
        for head, vectors in _lines(origin, columns):
            heads.append(head)
            sink.write(json.dumps(head, ensure_ascii=False)[:-1].encode() + vectors)
    if PART.fullmatch(file.name) and heads:
        about = {key: [heads[0][key]] for key in (*ABOUT, "dimension")}
        rest = {key: [head[key] for head in heads] for key in heads[0] if key not in about}
        with suppress(OSError), atomic_write(_beside(file)) as sink:  # without it, the part itself is read
            sink.write(_stamp(file))
            sink.writelines(json.dumps(pair, ensure_ascii=False).encode() + b"\n" for pair in (about | rest).items())


def read_origin(part: Path) -> Origin:
    """The model and the source of a part.

    Raises:
        VsslError: it can't be read, or is not a part.
    """
    with reading(part):
        found = {name: values[0] for name, values in _columns(part, (*ABOUT, "dimension"), 1).items()}
        if not all(isinstance(found[key], str) for key in ABOUT) or not isinstance(found["dimension"], int):
            raise ValueError("it does not name its model")
        return Origin(**found)


def read_part(part: Path, columns: Collection[str]) -> Columns:
    """Some columns of all rows of a part; vectors are read only if they are among them.

    Raises:
        VsslError: it can't be read, or is not a part.
    """
    with reading(part):
        found = _columns(part, {*columns, "dimension"})
        dimension = found["dimension"][0]
        return checked({name: _column(found[name], name, dimension) for name in columns}, columns)


def _column(values: list[Any], name: str, dimension: int) -> Any:  # noqa: ANN401 — see `Columns`
    if name in TEXTS:
        return values
    if name == "size":
        return np.array([-1 if size is None else size for size in values], np.int64)
    if name in ("embedding", "variance"):
        blank = [np.nan] * dimension
        return np.array([blank if of is None else of for of in values], np.float32).reshape(-1, dimension)
    missing = all(of is None for of in values)
    if name == "flags":
        found = {flag: np.array([of is not None and of.get(flag, False) for of in values], np.bool_) for flag in FLAGS}
        return None if missing else found
    return None if missing and name != "uncertainty" else np.array(values, np.float32)


def _lines(origin: Origin, columns: Columns) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each line in two pieces: its object up to the vectors, and the rest as bytes."""
    about = {key: getattr(origin, key) for key in (*ABOUT, "dimension")}
    flags, sizes = columns["flags"] or {}, columns["size"].tolist()
    variances = ~missing_vectors(columns["variance"])
    for row, reason in enumerate(columns["error"]):
        good = reason is None
        head = {
            "path": columns["path"][row],
            "sha256": columns["sha256"][row],
            "size": None if sizes[row] < 0 else sizes[row],
            "label": columns["label"][row],
            **{name: _number(columns[name], row) for name in ("uncertainty", *NUMBERS)},
            "flags": {name: bool(values[row]) for name, values in flags.items()} if good and flags else None,
            "error": reason,
            **about,
        }
        embedding = _vector(columns["embedding"][row]) if good else b"null"
        variance = _vector(columns["variance"][row]) if good and variances[row] else b"null"
        yield head, b"".join([VECTORS, embedding, b', "variance": ', variance, b"}\n"])


def _number(values: Float32s | None, row: int) -> float | None:
    return None if values is None or np.isnan(values[row]) else float(str(values[row]))


def _vector(values: Float32s) -> bytes:
    # numpy writes a float32 with the digits it has; as a Python float it would have twice as many.
    return f"[{', '.join(values.astype(np.str_))}]".encode()


def _columns(part: Path, names: Collection[str], most: int | None = None) -> dict[str, list[Any]]:
    """Some columns of a part's first rows, from the file beside it if that belongs to the part and has them."""
    if VECTORS_TOO.isdisjoint(names):
        with suppress(FileNotFoundError), _beside(part).open("rb") as file:
            if file.readline() == _stamp(part):
                there = dict(json.loads(line) for line in file if line[2 : line.index(b'"', 2)].decode() in names)
                if len(there) == len(set(names)):
                    return there
    found: dict[str, list[Any]] = {name: [] for name in names}
    with part.open("rb") as file:
        for line in islice(file, most):
            row = _row(line, whole=not VECTORS_TOO.isdisjoint(names))
            for name, values in found.items():
                values.append(row.get(name) if name in LATER else row[name])
    return found


def _row(line: bytes, whole: bool) -> dict[str, Any]:
    head, found, _ = line.partition(VECTORS)
    if not found or not line.endswith(b"}\n"):
        raise ValueError("a line is not a row of embeddings")
    row: dict[str, Any] = json.loads(line if whole else head + b"}")
    return row


def _beside(part: Path) -> Path:
    return part.with_name(f".{part.stem}.heads")


def _stamp(part: Path) -> bytes:
    """The first line of a part's heads: they belong to this very file."""
    found = part.stat()
    return f"{found.st_size} {found.st_mtime_ns}\n".encode()

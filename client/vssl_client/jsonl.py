"""Parts as JSON Lines: one object an image, with the columns of `vssl_client.table` and what the rows come from.

`path`, `sha256`, `size`, `uncertainty`, `percentile`, `confidence`, `flags`, `error`, `model`, `version`, `id`,
`source`, `dimension`, then `embedding` and `variance`, lists of D numbers; null where there is none.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vssl.files import atomic_write
from vssl_client.result import Floats
from vssl_client.rows import ABOUT, Origin, Rows, unreadable

SUFFIX = ".jsonl"
VECTORS = b', "embedding": '
"""What comes before it in a line can be read without the numbers, which are most of it."""


def write_part(file: Path, origin: Origin, rows: Rows) -> None:
    """Write one part, whole or not at all.

    Raises:
        OSError: the disk is full, or can't be written to.
    """
    with atomic_write(file) as sink:
        sink.writelines(_lines(origin, rows))


def read_origin(part: Path) -> Origin:
    """Which model and which source a part comes from.

    Raises:
        VsslError: it is not a part that can be read.
    """
    head = next(_heads(part), None)
    if head is None:
        raise unreadable(part, ValueError("it is empty"))
    return Origin(**{key: str(head[key]) for key in ABOUT}, dimension=head["dimension"])


def read_done(part: Path) -> tuple[list[str], list[str | None]]:
    """The paths in a part, and for each the reason why it has no embedding, or None.

    Raises:
        VsslError: it is not a part that can be read.
    """
    heads = list(_heads(part))
    return [head["path"] for head in heads], [head["error"] for head in heads]


def _lines(origin: Origin, rows: Rows) -> Iterator[bytes]:
    result, about = rows.result, {key: getattr(origin, key) for key in (*ABOUT, "dimension")}
    flags = result.flags or {}
    for row, (path, sha256, size, reason) in enumerate(
        zip(rows.paths, rows.hashes, rows.sizes, rows.reasons, strict=True)
    ):
        good = reason is None
        head = {
            "path": path,
            "sha256": sha256,
            "size": size,
            "uncertainty": _number(result.uncertainty, row),
            "percentile": _number(result.percentile, row),
            "confidence": _number(result.confidence, row),
            "flags": {name: bool(values[row]) for name, values in flags.items()} if good and flags else None,
            "error": reason,
            **about,
        }
        embedding, variance = (
            _vector(values[row]) if good else b"null" for values in (result.embedding, result.variance)
        )
        text = json.dumps(head, ensure_ascii=False)[:-1].encode()
        yield b"".join([text, VECTORS, embedding, b', "variance": ', variance, b"}\n"])


def _number(values: Floats | None, row: int) -> float | None:
    return None if values is None or np.isnan(values[row]) else float(str(values[row]))


def _vector(values: Floats) -> bytes:
    # numpy writes a float32 with as many digits as it has; as Python's float it would have twice as many.
    return f"[{', '.join(values.astype(np.str_))}]".encode()


def _heads(part: Path) -> Iterator[dict[str, Any]]:
    """Each line's object without its vectors."""
    try:
        with part.open("rb") as file:
            for line in file:
                head, found, _ = line.partition(VECTORS)
                if not found or not line.endswith(b"}\n"):
                    raise ValueError("a line is no row of embeddings")
                yield json.loads(head + b"}")
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(part, error) from error

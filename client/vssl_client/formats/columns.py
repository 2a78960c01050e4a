"""The columns of a file of embeddings, the same in every format, and the origin of its rows."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vssl.arrays import Float32s, Mask
from vssl.errors import VsslError
from vssl.objects.path import AnyPath
from vssl.uncertainty.calibrated import FLAGS, NUMBERS

ABOUT = ("model", "version", "id", "source")

Columns = dict[str, Any]
"""Columns of N rows: `path`, texts; `sha256`, `label`, `error`, texts or None; `size`, int64 [N], −1 where it is not
known; `embedding` and `variance`, float32 [N, D], and `uncertainty`, float32 [N], NaN where there is none; those of
`vssl.uncertainty.calibrated.NUMBERS`, float32 [N], or None; `flags`, bool [N] each, or None."""

TEXTS = ("path", "sha256", "label", "error")
COLUMNS = (*TEXTS, "size", "embedding", "variance", "uncertainty", *NUMBERS, "flags")
LATER = ("label", "familiarity")
"""Columns that parts of an earlier version lack."""


@dataclass(frozen=True)
class Origin:
    """What all rows share: the model's name, version, bundle id and dimension D, and the source's name.

    `encoder_id` is None in the files of an older version, and where a server does not tell it.
    """

    model: str
    version: str
    id: str
    source: str
    dimension: int
    encoder_id: str | None = field(default=None, compare=False)


def failed_rows(columns: Columns) -> Mask:
    """Which rows have an error in place of an embedding: bool [N]."""
    return np.array([error is not None for error in columns["error"]], np.bool_)


def missing_vectors(values: Float32s) -> Any:  # noqa: ANN401 — a mask, for numpy and for pyarrow
    """Which rows of [N, D] hold no vector: bool [N]."""
    return np.isnan(values).all(axis=1)


def every_flag(flags: dict[str, Mask]) -> dict[str, Mask]:
    """The flags of rows, bool [N] each, at least one of them; down where a part of an earlier version lacks one."""
    down = np.zeros_like(next(iter(flags.values())))
    return {name: flags.get(name, down) for name in FLAGS}


def checked(columns: Columns, wanted: Collection[str], dimension: int | None = None) -> Columns:
    """The columns, if they fit together.

    Raises:
        ValueError: one is missing, of another length than the others, or of another type than it should be.
    """
    counts = {len(of) for name in wanted for of in _arrays(columns[name])}
    if len(counts) > 1:
        raise ValueError(f"its columns have {' and '.join(map(str, sorted(counts)))} rows")
    for name in wanted:
        values = columns[name]
        if name in TEXTS:
            wrong = not {type(text) for text in values} <= ({str} if name == "path" else {str, type(None)})
        elif name in ("embedding", "variance"):
            wrong = values.ndim != 2 or dimension not in (None, values.shape[1])
        else:
            wrong = any(of.ndim != 1 for of in _arrays(values))
        if wrong:
            raise ValueError(f"its column {name} holds something else")
    return columns


@contextmanager
def reading(part: AnyPath) -> Iterator[None]:
    """Name the part in any error of reading it."""
    try:
        yield
    except VsslError:
        raise
    except Exception as error:  # broken bytes cause errors of any type
        raise unreadable(part, error) from error


def unreadable(part: AnyPath, error: Exception) -> VsslError:
    """The error for a damaged part, or a file that is not a part."""
    advice = "move it out of the folder, and `vssl embed` makes it again"
    reason = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return VsslError(f"{part}: not a part of embeddings that can be read ({reason}); {advice}")


def _arrays(values: Any) -> list[Any]:  # noqa: ANN401 — a list or an array
    if values is None:
        return []
    return list(values.values()) if isinstance(values, dict) else [values]

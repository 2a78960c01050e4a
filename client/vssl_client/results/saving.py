"""A result as columns, and these as a table, a data frame or a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vssl.errors import UsageError
from vssl.uncertainty.calibrated import NUMBERS
from vssl_client.formats.columns import Columns, Origin
from vssl_client.formats.contract import FORMATS, open_format

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from vssl_client.results.result import EmbeddingResult


def columns_of(result: "EmbeddingResult") -> Columns:
    """All columns of a result; an image without a path is named by its place."""
    count = len(result)
    return {
        "path": [str(at) if name is None else name for name, at in zip(result.names, result.index, strict=True)],
        "sha256": [None] * count,
        "size": np.full(count, -1, np.int64),
        "embedding": result.embedding,
        "variance": result.variance,
        "uncertainty": result.uncertainty,
        "percentile": result.percentile,
        "confidence": result.confidence,
        "familiarity": result.familiarity,
        "flags": result.flags,
        "error": _reasons(result),
        "label": [None] * count,
    }


def save(result: "EmbeddingResult", file: str | os.PathLike[str]) -> None:
    """What `EmbeddingResult.save` does."""
    path = Path(file)
    name = next((name for name in FORMATS if path.suffix == f".{name}"), None)
    if name is None:
        raise UsageError(f"{path}: its name must end in {', '.join(f'.{name}' for name in FORMATS)}")
    try:
        format = open_format(name)
    except ModuleNotFoundError as error:
        raise _missing(error, "parquet") from error
    format.write_part(path, _origin_of(result), columns_of(result))


def to_arrow(result: "EmbeddingResult") -> "pa.Table":
    """What `EmbeddingResult.to_arrow` does."""
    try:
        from vssl_client.formats.parquet import as_table  # of an optional extra
    except ModuleNotFoundError as error:
        raise _missing(error, "parquet") from error
    return as_table(_origin_of(result), columns_of(result))


def to_pandas(result: "EmbeddingResult") -> "pd.DataFrame":
    """What `EmbeddingResult.to_pandas` does."""
    try:
        import pandas as pd  # optional
    except ModuleNotFoundError as error:
        raise UsageError(f"to_pandas needs {error.name}, which is not installed: pip install pandas") from error
    columns: dict[str, Any] = {"path": result.names, "uncertainty": result.uncertainty}
    columns |= {name: of for name in NUMBERS if (of := getattr(result, name)) is not None}
    columns |= result.flags or {}
    columns["error"] = _reasons(result)
    columns |= {"embedding": list(result.embedding), "variance": list(result.variance)}
    return pd.DataFrame(columns, index=pd.Index(result.index, name="index"))


def _origin_of(result: "EmbeddingResult") -> Origin:
    return Origin(result.model, result.version, result.bundle_id or "", "", result.embedding.shape[1])


def _reasons(result: "EmbeddingResult") -> list[str | None]:
    return [None if error is None else error.reason for error in result.errors]


def _missing(error: ModuleNotFoundError, extra: str) -> UsageError:
    return UsageError(f"this needs {error.name}, which is not installed: pip install 'vssl[{extra}]'")

"""A result as a table, a data frame or a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vssl.errors import UsageError
from vssl_client.parts.formats import FORMATS, open_format
from vssl_client.parts.rows import Origin, Rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from vssl_client.results.result import EmbeddingResult


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
    format.write_part(path, *_as_part(result))


def to_arrow(result: "EmbeddingResult") -> "pa.Table":
    """What `EmbeddingResult.to_arrow` does."""
    try:
        from vssl_client.parts.parquet import as_table  # of an optional extra
    except ModuleNotFoundError as error:
        raise _missing(error, "parquet") from error
    return as_table(*_as_part(result))


def to_pandas(result: "EmbeddingResult") -> "pd.DataFrame":
    """What `EmbeddingResult.to_pandas` does."""
    try:
        import pandas as pd  # optional
    except ModuleNotFoundError as error:
        raise UsageError(f"to_pandas needs {error.name}, which is not installed: pip install pandas") from error
    columns: dict[str, Any] = {"path": result.names, "uncertainty": result.uncertainty}
    columns |= {name: of for name in ("percentile", "confidence") if (of := getattr(result, name)) is not None}
    columns |= result.flags or {}
    columns["error"] = [None if error is None else error.reason for error in result.errors]
    columns |= {"embedding": list(result.embedding), "variance": list(result.variance)}
    return pd.DataFrame(columns, index=pd.Index(result.index, name="index"))


def _as_part(result: "EmbeddingResult") -> tuple[Origin, Rows]:
    """The result as a part of a folder; an image without a path is named by its place."""
    origin = Origin(result.model, result.version, result.bundle_id or "", "", result.embedding.shape[1])
    paths = [str(at) if name is None else name for name, at in zip(result.names, result.index, strict=True)]
    none = [None] * len(result)
    return origin, Rows(paths, list(none), list(none), result)


def _missing(error: ModuleNotFoundError, extra: str) -> UsageError:
    return UsageError(f"this needs {error.name}, which is not installed: pip install 'vssl[{extra}]'")

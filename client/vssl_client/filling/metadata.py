"""What is known of images beside their pixels, from a CSV, Parquet or JSON Lines file with a column `path` or `id`."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from vssl.errors import UsageError

KEYS = ("path", "id")


def read_metadata(file: Path) -> dict[str, Mapping[str, object]]:
    """The fields of each image by its path.

    Raises:
        UsageError: the file can't be read as what its name says, or names no images.
    """
    try:
        rows = list(_rows(file))
    except (OSError, ValueError, csv.Error) as error:  # Arrow's errors are ValueErrors
        raise UsageError(f"{file}: can't be read: {error}") from error
    key = next((key for key in KEYS if rows and key in rows[0]), None)
    if rows and key is None:
        raise UsageError(f"{file}: has neither a column path nor a column id, which name the images")
    found: dict[str, Mapping[str, object]] = {}
    for number, row in enumerate(rows, 1):
        name = row.get(key) if key is not None else None
        if not isinstance(name, str) or not name:
            raise UsageError(f"{file}: row {number} has no {key}")
        if name in found:
            raise UsageError(f"{file}: row {number}: {name!r} is there twice")
        found[name] = {field: value for field, value in row.items() if field not in KEYS and value is not None}
    return found


def _rows(file: Path) -> Iterable[Mapping[str, object]]:
    match file.suffix.lower():
        case ".csv":
            with file.open(encoding="utf-8-sig", newline="") as opened:
                yield from csv.DictReader(opened, strict=True)
        case ".jsonl" | ".ndjson":
            with file.open(encoding="utf-8") as opened:
                for line in opened:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("a line is no JSON object")
                    yield row
        case ".parquet":
            import pyarrow.parquet as pq

            yield from pq.read_table(file).to_pylist()
        case other:
            raise ValueError(f"{other or 'a file without an ending'}: take .csv, .jsonl or .parquet")

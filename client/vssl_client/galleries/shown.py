"""Galleries and their answers as text: lines for people, or JSON for programs."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from vssl.errors import UsageError
from vssl.files import atomic_write
from vssl_client.galleries.adding import Filled
from vssl_gallery.curating import Places
from vssl_gallery.errors import InvalidFilter
from vssl_gallery.gallery import Classification, Gallery
from vssl_gallery.store.columns import FieldType
from vssl_gallery.store.contract import Found

AsJson = Callable[[object], str]


def fields_of(texts: Sequence[str]) -> dict[str, FieldType]:
    """Fields from NAME=TYPE.

    Raises:
        UsageError: a text without `=`, or a name that comes twice.
    """
    found: dict[str, FieldType] = {}
    for text in texts:
        name, equals, kind = text.partition("=")
        if not equals or name in found:
            raise UsageError(f"--field {text}: write NAME=text|integer|number|boolean|time, each name once")
        found[name] = cast(FieldType, kind)  # the gallery checks it
    return found


def parsed(where: str | None) -> Mapping[str, Any] | None:
    """A filter's JSON document.

    Raises:
        InvalidFilter: it is not JSON, or no object.
    """
    if where is None:
        return None
    try:
        document = json.loads(where)
    except (ValueError, RecursionError) as error:
        raise InvalidFilter(f"--where: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidFilter('--where: write an object, such as {"label": "shoe"}')
    return document


def as_json(value: object) -> str:
    """One line of JSON; times in ISO 8601."""
    return json.dumps(value, ensure_ascii=False, default=str)


def as_lines(values: Mapping[str, object]) -> str:
    """A line for each value that is known."""
    known = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in values.items()}
    return "\n".join(f"{name:<16}{value}" for name, value in known.items() if value is not None)


def about(gallery: Gallery) -> dict[str, object]:
    """What there is to know of a gallery."""
    state, spec = gallery.info(), gallery.spec
    record, reason = gallery.calibration()
    return {
        "name": gallery.name,
        "model": f"{spec.model} {spec.model_version}".strip(),
        "encoder_id": spec.encoder_id,
        "dimension": spec.dimension,
        "fields": dict(spec.fields),
        "rows": state.rows,
        "version": state.version,
        "indexed_rows": state.indexed_rows,
        "recall": state.recall,
        "bytes": state.size,
        "calibration": reason or "fitted",
        "classes": None if record is None else len(record.classes),
    }


def problems(found: Filled, unreadable: str | None) -> list[str]:
    """Lines about what is not in the gallery as its user meant it; none where all is."""
    lines: list[str] = []
    if found.failed:
        lines = [f"{found.failed:,} images could not be added:", *(f"  {path}: {why}" for path, why in found.failures)]
        if more := found.failed - len(found.failures):
            lines.append(f"  … and {more:,} more")
    if found.unmatched:
        some = ", ".join(found.unmatched[:3]) + (", …" if len(found.unmatched) > 3 else "")
        lines.append(f"{len(found.unmatched):,} rows of the metadata name no image of the source: {some}")
    return [*lines, unreadable] if unreadable else lines


def found_as_lines(found: Found, names: Sequence[str], columns: Sequence[str], dump: AsJson | None) -> Iterator[str]:
    """A line for each query and row: the query, cosine, id and columns; or, with `dump`, an object for each query."""
    rows = found.rows.to_pylist()
    for query, name in enumerate(names):
        mine = [{key: value for key, value in row.items() if key != "query"} for row in rows if row["query"] == query]
        if dump is not None:
            yield dump({"query": name, "version": found.version, "exact": found.exact, "rows": mine})
            continue
        for row in mine:
            yield "\t".join([name, f"{row['similarity']:.3f}", row["id"], *(str(row[column]) for column in columns)])


def classified_as_lines(found: Classification, names: Sequence[str], dump: AsJson | None) -> Iterator[str]:
    """A line for each query."""
    for name, answer in zip(names, found.answers, strict=True):
        if dump is not None:
            extra = {"version": found.version, "exact": found.exact, "calibration": found.calibration}
            yield dump({"query": name, **asdict(answer), **extra})
        else:
            p = "p unknown" if answer.p_correct is None else f"p {answer.p_correct:.2f}"
            why = f" ({answer.reason})" if answer.reason else ""
            yield f"{name}\t{answer.label}\t{p}\t{answer.action}{why}"


def write_map(found: Places, out: Path) -> None:
    """Write places as CSV: id, x, y, and whether the row was mapped itself."""
    with atomic_write(out) as file:
        lines = csv.writer(_Lines(file.write))
        lines.writerow(["id", "x", "y", "mapped"])
        for name, (x, y), mapped in zip(found.ids, found.map.places.tolist(), found.map.mapped.tolist(), strict=True):
            lines.writerow([name, f"{x:.6g}", f"{y:.6g}", int(mapped)])


class _Lines:
    """Text for `csv`, into a binary file."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, text: str) -> None:
        self._write(text.encode())

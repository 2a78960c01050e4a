"""Galleries and their answers as text: lines for people, or JSON for programs."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vssl.errors import UsageError
from vssl.files import atomic_write
from vssl_client.filling.contract import Filled
from vssl_client.galleries import Classification, GalleryInfo, GalleryMap, Neighbour, SearchAnswer
from vssl_client.galleries.asked import QueryOptions
from vssl_gallery.errors import InvalidFilter

AsJson = Callable[[object], str]


def fields_of(texts: Sequence[str]) -> dict[str, str]:
    """Fields from NAME=TYPE.

    Raises:
        UsageError: a text without `=`, or a name that comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, kind = text.partition("=")
        if not equals or name in found:
            raise UsageError(f"--field {text}: write NAME=text|integer|number|boolean|time, each name once")
        found[name] = kind  # the gallery checks it
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


def about(info: GalleryInfo) -> dict[str, object]:
    """What there is to know of a gallery."""
    names = (
        "dimension",
        "fields",
        "rows",
        "labelled",
        "version",
        "indexed_rows",
        "recall",
        "bytes",
        "calibration",
        "classes",
    )
    model = f"{info.model} {info.model_version}".strip()
    known = {name: getattr(info, name) for name in names}
    return {"name": info.name, "model": model, "encoder_id": info.encoder_id, **known}


def asked(images: Sequence[str], ids: Sequence[str], where: str | None) -> tuple[QueryOptions, list[str]]:
    """Images, or rows of the gallery, as a query, and what people call each of them.

    Raises:
        UsageError: there are none, or both.
        InvalidFilter: the filter is not JSON.
    """
    if bool(images) == bool(ids):
        raise UsageError("name images to look up, or rows of the gallery by --id")
    query: QueryOptions = {"ids": ids} if ids else {"images": images}
    query["where"] = parsed(where)
    return query, [*ids, *images]


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


def found_as_lines(
    found: SearchAnswer, names: Sequence[str], columns: Sequence[str], dump: AsJson | None
) -> Iterator[str]:
    """A line for each query and row: the query, cosine, id and columns; or, with `dump`, an object for each query."""
    for name, result in zip(names, found.results, strict=True):
        rows = [_row(one, columns) for one in result.neighbours]
        if dump is not None:
            yield dump({"query": name, "version": found.version, "exact": found.exact, "rows": rows})
            continue
        for row in rows:
            shown = [str(row[column]) for column in columns]
            yield "\t".join([name, f"{row['similarity']:.3f}", str(row["id"]), *shown])


def _row(one: Neighbour, columns: Sequence[str]) -> dict[str, Any]:
    score = {} if one.score is None else {"score": one.score}
    known = {} if one.row is None else {column: one.row.value(column) for column in columns}
    return {"similarity": one.similarity, "id": one.id, **score, **known}


def classified_as_lines(found: Classification, names: Sequence[str], dump: AsJson | None) -> Iterator[str]:
    """A line for each query."""
    for name, answer in zip(names, found.results, strict=True):
        if dump is not None:
            extra = {"version": found.version, "exact": found.exact, "calibration": found.calibration}
            yield dump({**asdict(answer), **extra, "query": name})
        else:
            p = "p unknown" if answer.p_correct is None else f"p {answer.p_correct:.2f}"
            why = f" ({answer.reason})" if answer.reason else ""
            yield f"{name}\t{answer.label}\t{p}\t{answer.action}{why}"


def write_map(found: GalleryMap, out: Path) -> None:
    """Write places as CSV: id, x, y, and whether the row was mapped itself."""
    with atomic_write(out) as file:
        lines = csv.writer(_Lines(file.write))
        lines.writerow(["id", "x", "y", "mapped"])
        for row in found.rows:
            lines.writerow([row.id, f"{row.x:.6g}", f"{row.y:.6g}", int(row.mapped)])


class _Lines:
    """Text for `csv`, into a binary file."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, text: str) -> None:
        self._write(text.encode())

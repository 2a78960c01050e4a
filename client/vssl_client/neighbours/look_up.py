"""Embedded images looked up in a gallery of embedded images, and what each match is worth.

Both folders are read part by part, and of each part only the columns in use: neither need fit into memory.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vssl.search.nearest import NEIGHBOURS, Neighbours
from vssl.uncertainty.matches import apply_gallery_calibration, matches_of
from vssl_client.neighbours.gallery import Gallery
from vssl_client.neighbours.labels import Labels
from vssl_client.parts.stored import StoredEmbeddings, iter_embeddings

Row = dict[str, Any]
JUDGED = ("p_correct", "interval", "action", "prediction_set", "alpha")

QUERIES = 16_384
"""Queries that are looked up in one pass over the gallery."""

JUDGED_AT_ONCE = 1024
"""Queries whose votes are held at a time: a number for each label and each of them."""


def looked_up(
    queries: Path, gallery: Gallery, k: int, labels: Labels | None, alpha: str, risk: str, failures: list[int]
) -> Iterator[Row]:
    """One row a query: its k neighbours, and what can be said of the nearest one; null what can't.

    Queries that are the gallery's own images don't find themselves. `failures` gets, for each part, the number of
    images that have no embedding and so no row.

    Raises:
        UsageError: the gallery holds no image to compare with.
        VsslError: a part can't be read.
    """
    same, first = queries.resolve() == gallery.folder.resolve(), 0
    for parts in _blocks(queries, failures):
        count = sum(map(len, parts))
        own = np.arange(first, first + count) if same else None
        vectors = np.concatenate([part.embedding for part in parts])
        found = gallery.search(vectors, k if labels is None else max(k, NEIGHBOURS), own)
        paths = gallery.paths(found.rows[:, :k])
        start = 0
        for part in parts:
            for begin in range(0, len(part), JUDGED_AT_ONCE):
                rows = slice(begin, min(begin + JUDGED_AT_ONCE, len(part)))
                among = slice(start + rows.start, start + rows.stop)
                matched = _Matched(part, rows, Neighbours(found.rows[among], found.similarity[among]))
                yield from _as_rows(matched, k, paths, labels, _worth(matched, labels, alpha, risk))
            start += len(part)
        first += count


@dataclass(frozen=True)
class _Matched:
    """Some queries of a part, and their neighbours in the gallery."""

    part: StoredEmbeddings
    rows: slice
    found: Neighbours


def _blocks(queries: Path, failures: list[int]) -> Iterator[list[StoredEmbeddings]]:
    """Parts of the queries, as many as are looked up at once."""
    block: list[StoredEmbeddings] = []
    for part in iter_embeddings(queries, ["path", "embedding", "uncertainty", "flags"]):
        failures.append(len(part.failures))
        block.append(part)
        if sum(map(len, block)) >= QUERIES:
            yield block
            block = []
    if sum(map(len, block)):
        yield block


def _as_rows(
    matched: _Matched, k: int, paths: dict[int, str], labels: Labels | None, worth: list[Row]
) -> Iterator[Row]:
    part, rows, found = matched.part, matched.rows, matched.found
    flags = None if part.flags is None else {name: of[rows] for name, of in part.flags.items()}
    for row, path in enumerate(part.paths[rows]):
        nearest = found.rows[row, :k].tolist()
        similarities = found.similarity[row, :k].tolist()
        neighbours: list[Row] = [
            {"path": paths[i], "similarity": round(similarity, 6)}
            for i, similarity in zip(nearest, similarities, strict=True)
        ]
        if labels is not None:
            for neighbour, i in zip(neighbours, nearest, strict=True):
                neighbour["label"] = labels.names[labels.numbers[i]]
        yield {
            "path": path,
            "uncertainty": float(part.uncertainty[rows][row]),
            "flags": None if flags is None else {name: bool(of[row]) for name, of in flags.items()},
            "neighbours": neighbours,
            "label": None if labels is None else neighbours[0]["label"],
            **worth[row],
        }


def _worth(matched: _Matched, labels: Labels | None, alpha: str, risk: str) -> list[Row]:
    """What the nearest match of each query is worth."""
    part, rows, found = matched.part, matched.rows, matched.found
    if labels is None or labels.calibration is None:
        return [dict.fromkeys(JUDGED)] * len(found.rows)
    matches = matches_of(found, part.uncertainty[rows], labels.numbers, len(labels.names))
    tie_break = np.array([tie_break_of(path) for path in part.paths[rows]])
    ood = None if part.flags is None else part.flags["ood"][rows]
    judged = apply_gallery_calibration(labels.calibration, matches, alpha, risk, tie_break, ood)
    return [
        {
            "p_correct": round(float(judged.p_correct[row]), 4),
            "interval": [round(float(end[row]), 4) for end in (judged.low, judged.high)],
            "action": judged.actions[row],
            "prediction_set": [labels.names[label] for label in np.flatnonzero(judged.sets[row])],
            "alpha": float(alpha),
        }
        for row in range(len(found.rows))
    ]


def tie_break_of(path: str) -> float:
    """A number in [0, 1) that settles ties: uniform over paths, and always the same for one."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=6).digest()) / 2**48


def as_text(row: Row) -> str:
    """A row for a person to read: a line for the query, then one for each neighbour."""
    head = [row["path"], f"uncertainty {row['uncertainty']:.3f}"]
    head += [name for name, raised in (row["flags"] or {}).items() if raised]
    if row["p_correct"] is not None:
        low, high = row["interval"]
        head += [f"{row['action']} {row['label']}, p {row['p_correct']:.2f} ({low:.2f} to {high:.2f})"]
        head += [f"set at {row['alpha']:g}: {', '.join(row['prediction_set']) or 'none'}"]
    lines = ["  ".join(head)]
    lines += [f"  {one['similarity']:.4f}  {one['path']}" for one in row["neighbours"]]
    return "\n".join(lines)

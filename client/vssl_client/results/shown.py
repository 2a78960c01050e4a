"""Results in a few words, for a person at a prompt or in a notebook."""

from html import escape
from typing import TYPE_CHECKING

from vssl.uncertainty.calibrated import NUMBERS

if TYPE_CHECKING:
    from vssl_client.results.result import EmbeddingResult, ImageEmbedding

MOST_ROWS = 10


def of_image(row: "ImageEmbedding") -> str:
    """`ImageEmbedding(…)` on one line."""
    name = f"image {row.index}" if row.name is None else repr(row.name)
    if row.error is not None:
        return f"ImageEmbedding({name}, {row.error.reason})"
    raised = [flag for flag, is_raised in (row.flags or {}).items() if is_raised]
    return (
        f"ImageEmbedding({', '.join([name, f'D={len(row.embedding)}', f'uncertainty {row.uncertainty:.3f}', *raised])})"
    )


def of_result(result: "EmbeddingResult") -> str:
    """`EmbeddingResult(…)` on one line, however many rows it has."""
    failed = sum(error is not None for error in result.errors)
    rows = f"{len(result):,} image{'' if len(result) == 1 else 's'}" + (f", {failed:,} failed" if failed else "")
    return f"EmbeddingResult({rows}, D={result.embedding.shape[1]}, model {result.model!r} version {result.version})"


def as_html(result: "EmbeddingResult") -> str:
    """The first rows as a table, without their vectors."""
    columns = ["image", "uncertainty"]
    columns += [name for name in NUMBERS if getattr(result, name) is not None]
    columns += ["flags"] if result.flags is not None else []
    columns += ["error"] if any(result.errors) else []
    lines = [f"<p>{escape(of_result(result))}</p><table><tr>{_cells('th', columns)}</tr>"]
    for row in result[:MOST_ROWS]:
        cells = {
            "image": str(row.index) if row.name is None else row.name,
            "flags": ", ".join(name for name, is_raised in (row.flags or {}).items() if is_raised),
            "error": "" if row.error is None else row.error.reason,
        }
        numbers = {name: getattr(row, name) for name in columns if name not in cells}
        cells |= {name: "" if value is None or value != value else f"{value:.3f}" for name, value in numbers.items()}
        lines.append(f"<tr>{_cells('td', [cells[name] for name in columns])}</tr>")
    more = len(result) - MOST_ROWS
    return "".join([*lines, "</table>", f"<p>… and {more:,} more</p>" if more > 0 else ""])


def _cells(kind: str, texts: list[str]) -> str:
    return "".join(f"<{kind}>{escape(text)}</{kind}>" for text in texts)

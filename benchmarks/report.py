"""What every benchmark shares: its flags, one table on standard output, and the same as JSON."""

import argparse
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from vssl.memory import cores

Row = dict[str, Any]
Result = TypeVar("Result")
DEMO_DATA = str(Path(__file__).parents[1] / "demo" / "fashion-mnist.zip")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The flags of every benchmark."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--quick", action="store_true", help="end within 3 minutes, on less data")
    flags.add_argument("--json", type=Path, metavar="FILE", help="write the table here too")
    return flags


def report(title: str, rows: Sequence[Row], settings: Row, file: Path | None) -> None:
    """Print one table and, if asked, write it with the settings and the kind of machine."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([show(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    machine = f"{cores()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"\n{title}\n{machine}; " + ", ".join(f"{name} {show(value)}" for name, value in settings.items()))
    for number, line in enumerate(cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
    if file:
        content = {"title": title, "machine": machine, "settings": settings, "rows": list(rows)}
        file.write_text(json.dumps(content, indent=2) + "\n")


def earlier_rows(file: Path | None, settings: Row) -> list[Row]:
    """Rows that an earlier run under the same settings has left in the file: a long table can be stopped."""
    if file is None or not file.exists():
        return []
    content = json.loads(file.read_text())
    rows: list[Row] = content["rows"] if content["settings"] == settings else []
    return rows


def fingerprint(recipe: BaseModel) -> str:
    """Of all that a recipe says: a name stays when its recipe becomes another, and rows of both are no table."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:12]


def threads_each(jobs: int) -> int:
    """Threads for one of so many processes that share the cores."""
    return max(1, cores() // jobs)


def at_once(jobs: int, work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
    """`work(*task)` of each task in turn, so many of them at once, each in a process with its share of the cores.

    A small net's step leaves most of a second thread idle: two processes of one thread do about half as much again.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads_each(jobs))  # The processes start afresh, so torch obeys it.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(work, *zip(*tasks, strict=True))


def show(value: object) -> str:
    """A figure as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)

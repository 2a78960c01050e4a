"""The figures of `vssl evaluate` as a table for a person."""

import re
from collections.abc import Mapping
from itertools import groupby

GROUPS = (
    ("Images", r"images|unreadable|bank_images"),
    ("Accuracy", r"knn|linear"),
    ("Rank and spread of the embedding", r"effective_rank|rankme|sphere_std"),
    ("Uncertainty: degraded against clean images", r"auroc_|variance_"),
    ("Uncertainty: wrong against right neighbours", r"r_auroc|aurc|augrc|e_aurc|error_cut"),
    ("Uncertainty: out-of-distribution images", r"ood_"),
    ("Other", ""),
)


def table(figures: Mapping[str, float | int]) -> str:
    """One line a figure, under the heading of its group; the ends of a 95 % interval (`…_low`, `…_high`) beside it."""
    names = sorted((name for name in figures if not name.endswith(("_low", "_high"))), key=_group)
    lines = []
    for group, members in groupby(names, _group):
        lines += ["", GROUPS[group][0]]
        for name in members:
            ends = [f"{figures[f'{name}_{end}']:.3f}" for end in ("low", "high") if f"{name}_{end}" in figures]
            value = figures[name]
            text = f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
            lines.append(f"  {name:<24} {text:>9}   {' to '.join(ends)}".rstrip())
    return "\n".join(lines[1:])


def _group(name: str) -> int:
    return next(number for number, (_, pattern) in enumerate(GROUPS) if re.match(pattern, name))

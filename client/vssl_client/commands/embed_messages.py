"""What `vssl embed` prints at its end."""

import json
import os
from dataclasses import asdict

from vssl.cli import echo
from vssl.errors import VsslError
from vssl.objects.path import AnyPath
from vssl.sources.source import Source
from vssl_client.folder.contract import Plan, Summary


def summary_as_json(summary: Summary, out: AnyPath, seconds: float, nodes: dict[str, int] | None) -> str:
    """The summary as a line of JSON; `nodes` has the images that each node of a cluster embedded."""
    fields = {"out": os.fsencode(str(out)).decode(errors="replace"), **asdict(summary), "seconds": round(seconds, 3)}
    fields["images_per_second"] = round(summary.new / seconds, 1)
    return json.dumps(fields if nodes is None else {**fields, "nodes": nodes}, ensure_ascii=False)


def report_plan(plan: Plan, out: AnyPath, as_json: bool) -> None:
    """Print what a job would do."""
    if as_json:
        echo(json.dumps({"out": os.fsencode(str(out)).decode(errors="replace"), **asdict(plan)}, ensure_ascii=False))
    else:
        echo(
            f"{out}: {plan.images:,} images in the source, {plan.done:,} rows, {plan.failed:,} of them failed; "
            f"{plan.to_embed:,} to embed; nothing was done"
        )


def report_problems(images: Source, summary: Summary, out: AnyPath, strict: bool, silent: bool) -> None:
    """Print what was passed over.

    Raises:
        VsslError: images failed or have changed, or a folder can't be read; with `strict`, files were passed over.
    """
    passed = images.passed_over.as_text()
    if passed and not (silent or strict):
        echo(passed)
    wrong = [*_failures(summary, out), *_changes(summary), images.passed_over.unreadable_as_text()]
    if any(wrong) or (strict and passed):
        raise VsslError("\n".join(filter(None, [*wrong, passed if strict else None])))


def _failures(summary: Summary, out: AnyPath) -> list[str]:
    if not summary.failed:
        return []
    lines = [f"  {path}: {reason}" for path, reason in summary.failures]
    more = summary.failed - len(lines)
    if more:
        lines.append(f"  … and {more:,} more; the column `error` in {out} has them all")
    return [f"{summary.failed:,} images could not be embedded:", *lines, "  --retry-failed tries them again"]


def _changes(summary: Summary) -> list[str]:
    if not summary.changed:
        return []
    lines = [f"  {path}" for path in summary.changes]
    more = summary.changed - len(lines)
    if more:
        lines.append(f"  … and {more:,} more")
    return [f"{summary.changed:,} images have changed since they were embedded (--changed embeds them again):", *lines]

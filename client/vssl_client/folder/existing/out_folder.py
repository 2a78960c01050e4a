"""The folder that a job writes to: locked while the job runs, and for one model and one source only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vssl.bundle.default import builtin_name
from vssl.errors import UsageError
from vssl.files import locked
from vssl_client.formats.columns import Origin
from vssl_client.formats.contract import Format
from vssl_client.parts.finding import other_files_in, parts_of


@contextmanager
def opened(out: Path, format: Format, origin: Origin, overwrite: bool) -> Iterator[list[Path]]:
    """Lock `out` for the block, and give the parts that it holds already.

    Raises:
        UsageError: see `checked_parts`; another job is writing to it.
        VsslError: a part can't be read.
    """
    check_folder(out, format)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        for draft in out.glob(".part-*.tmp"):  # of a run that was killed
            draft.unlink()
        if overwrite:
            for old in [*parts_of(out, format.SUFFIX), *out.glob(".part-*.heads")]:
                old.unlink()
        yield checked_parts(out, format, origin)


def check_folder(out: Path, format: Format) -> None:
    """Refuse a folder that holds something else.

    Raises:
        UsageError: it holds something else, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a folder")
    others = other_files_in(out, format.SUFFIX) if out.exists() else []
    if others:
        advice = "move it away" if others[0].startswith("part-") else "name a new folder"
        raise UsageError(f"{out}: holds something else ({others[0]}); {advice}")


def checked_parts(out: Path, format: Format, origin: Origin) -> list[Path]:
    """The parts of a folder.

    Raises:
        UsageError: they come from another model or source; the folder holds something else.
        VsslError: a part can't be read.
    """
    check_folder(out, format)
    parts = parts_of(out, format.SUFFIX)
    for part in parts:
        _check_origin(part, format.read_origin(part), origin)
    return parts


def _check_origin(part: Path, found: Origin, origin: Origin) -> None:
    if found.id != origin.id:
        name = builtin_name(found.id)
        raise UsageError(
            f"{part.parent}: holds embeddings of model {found.model} version {found.version} "
            f"(id {found.id[:12]}{f', {name}' if name else ''}), and this is {origin.model} version {origin.version} "
            f"(id {origin.id[:12]}); "
            f"{f'--bundle {name} goes on with them; or ' if name else ''}name a new folder, or --overwrite "
            "deletes them first"
        )
    if found.source != origin.source:
        raise UsageError(
            f"{part.parent}: holds embeddings of {found.source}, and this is {origin.source}; name a new folder, or "
            "--overwrite deletes them first"
        )

"""The folder that a job writes to: locked while the job runs, and for one model and one source only."""

from collections.abc import Iterator
from contextlib import contextmanager

from vssl.bundle.default import builtin_name
from vssl.errors import UsageError
from vssl.files import locked
from vssl.objects.path import AnyPath, ObjectPath
from vssl_client.folder.existing.each_part import each_part
from vssl_client.formats.columns import Origin
from vssl_client.formats.contract import Format
from vssl_client.parts.finding import other_files_in, parts_of


@contextmanager
def opened(out: AnyPath, format: Format, origin: Origin, overwrite: bool) -> Iterator[list[AnyPath]]:
    """Lock `out` for the block, and give the parts that it holds already.

    Raises:
        UsageError: see `checked_parts`; another job is writing to it.
        VsslError: a part can't be read.
    """
    check_folder(out, format)
    if isinstance(out, ObjectPath):
        # Nothing locks a prefix. But a part is only ever written by a job that knows all parts before it: it has read
        # them or written them, and of two jobs that write the same number the second one fails. So no image can get
        # two rows, whatever else writes here or is killed.
        for old in parts_of(out, format.SUFFIX) if overwrite else []:
            old.unlink()
        yield checked_parts(out, format, origin)
        return
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        for draft in out.glob(".part-*.tmp"):  # of a run that was killed
            draft.unlink()
        if overwrite:
            for old in [*parts_of(out, format.SUFFIX), *out.glob(".part-*.heads")]:
                old.unlink()
        yield checked_parts(out, format, origin)


def check_folder(out: AnyPath, format: Format) -> None:
    """Refuse a folder that holds something else.

    Raises:
        UsageError: it holds something else, or is a file.
    """
    if isinstance(out, ObjectPath):
        _check_address(out, format)
    elif out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a folder")
    others = other_files_in(out, format.SUFFIX) if is_there(out) else []
    if others:
        advice = "move it away" if others[0].startswith("part-") else "name a new folder"
        raise UsageError(f"{out}: holds something else ({others[0]}); {advice}")


def is_there(out: AnyPath) -> bool:
    """Whether it can be listed; a prefix always can."""
    return isinstance(out, ObjectPath) or out.exists()


def _check_address(out: ObjectPath, format: Format) -> None:
    if out.address.startswith("http"):
        raise UsageError(f"{out}: a web server is only read; write to a folder, or to s3:// or gs://")
    if out.address.count("/") < 3:
        raise UsageError(f"{out}: name a folder in the bucket, such as {out}/embeddings")
    if format.SUFFIX != ".parquet":
        raise UsageError(f"{out}: an object store gets Parquet; leave --format out, or name a folder")


def checked_parts(out: AnyPath, format: Format, origin: Origin) -> list[AnyPath]:
    """The parts of a folder.

    Raises:
        UsageError: they come from another model or source; the folder holds something else.
        VsslError: a part can't be read.
    """
    check_folder(out, format)
    parts = parts_of(out, format.SUFFIX)
    for part, found in zip(parts, each_part(format.read_origin, parts), strict=True):
        _check_origin(part, found, origin)
    return parts


def _check_origin(part: AnyPath, found: Origin, origin: Origin) -> None:
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

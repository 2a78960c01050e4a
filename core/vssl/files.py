"""Writes files and folders whole or not at all, and locks folders."""

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vssl.errors import UsageError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` whole, or not at all.

    1. Write to a temporary file in the same folder (a rename does not cross file systems). Its name starts with a
       dot: if we are killed here, readers of the folder pass it over.
    2. Flush and fsync: without it a power cut can leave a renamed but empty file.
    3. `os.replace`, which is atomic on POSIX and Windows.
    On any failure, a full disk included, the temporary file is removed and the old file at `path` stays.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        # Not by `tempfile`, which makes files private whatever the umask says.
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_directory(location: Path, contents: Mapping[str, bytes]) -> None:
    """Replace a folder by these files, named by relative paths, whole or not at all."""
    # Built beside its place and renamed into it, so that a reader never meets half a folder. Between the two renames
    # the folder is missing for a moment. If we are killed there, both versions lie in the hidden folder beside it.
    with tempfile.TemporaryDirectory(dir=location.parent, prefix=f".{location.name}.") as draft:
        new, old = Path(draft, "new"), Path(draft, "old")
        for name, data in contents.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        try:
            if location.exists():
                location.rename(old)
            new.rename(location)
        except BaseException:
            if old.exists() and not location.exists():
                old.rename(location)
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder/_lock`. The system releases it when the process ends, however it ends; the empty file stays.

    Raises:
        UsageError: another process holds it, or the file system has no locks.
    """
    from filelock import FileLock, Timeout  # only jobs that write take the time to import it

    lock = FileLock(folder / "_lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{folder}: another vssl process is writing to it; wait for it or name another folder"
        ) from None
    except NotImplementedError as error:
        raise UsageError(f"{folder}: its file system has no locks; name a folder on another one") from error
    try:
        yield
    finally:
        lock.release()

"""Files that are either whole or not there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` whole, or not at all.

    1. Write to a temporary file in the same folder (a rename does not cross file systems). Its name starts with a
       dot, so that readers of a folder pass it over if we are killed here.
    2. Flush and fsync: without it a power cut can leave a renamed but empty file.
    3. `os.replace`, which is atomic on POSIX and Windows.
    On any failure, a full disk included, the temporary file is removed and what was at `path` stays.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        # Opened by hand rather than by `tempfile`, which would make it private whatever the umask says.
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise

"""The cache folder of this user. Nobody else may write to it, because some files in it are code."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import platformdirs


class CacheUnavailableError(OSError):
    """There is no private cache folder. The message says why; the work goes on without one."""


def cache_folder(*names: str) -> Path:
    """The private folder `names` under the user's cache folder (`$XDG_CACHE_HOME/vssl`, `~/.cache/vssl`), made if
    missing.

    Every folder from `vssl` down belongs to this user, is writable by nobody else, and is no link.

    Raises:
        CacheUnavailableError: it can't be made, somebody else owns it, or others may write to it.
    """
    try:
        folder = Path(platformdirs.user_cache_dir("vssl", appauthor=False)).absolute()
        folder.parent.mkdir(parents=True, exist_ok=True)
        for part in ("", *names):
            folder = folder / part
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _check_private(folder)
    except CacheUnavailableError:
        raise
    except (OSError, RuntimeError) as error:  # a full or read-only disk; no home
        raise CacheUnavailableError(f"no cache folder can be made: {error}") from error
    return folder


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise CacheUnavailableError(f"{folder} is a link or a file, not a folder: remove it")
    if not hasattr(os, "getuid"):  # Windows: the profile's folders are private by their access lists
        return
    if found.st_uid != os.getuid():
        raise CacheUnavailableError(
            f"{folder} belongs to another user: remove it, or set XDG_CACHE_HOME to a folder of yours"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheUnavailableError(
            f"{folder} can be written by others: remove it, or chmod go-w it if you trust what it holds"
        )

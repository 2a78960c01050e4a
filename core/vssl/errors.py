"""Errors that a user can act on, each with the exit status that `vssl` ends with."""

from typing import Any


class VsslError(Exception):
    """Something failed in a way that the message explains: what, which file or field, what to do. Exit status 1."""

    exit_status = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # By default Python calls the class with `args` alone, which fails where `__init__` takes more.
        return _restored, (type(self), self.args), self.__dict__


class UsageError(VsslError):
    """The request itself can't be carried out: a path that does not exist, a missing extra. Exit status 2."""

    exit_status = 2


class BundleError(VsslError):
    """A bundle that can't be trusted or read: a changed byte, an unknown schema, a path outside the directory."""


def _restored(kind: type[VsslError], args: tuple[Any, ...]) -> VsslError:
    return kind.__new__(kind, *args)

"""Errors that a user can act on, each with the exit status that `vssl` ends with."""


class VsslError(Exception):
    """Something failed in a way that the message explains: what, which file or field, what to do. Exit status 1."""

    exit_status = 1


class UsageError(VsslError):
    """The request itself can't be carried out: a path that does not exist, a missing extra. Exit status 2."""

    exit_status = 2


class BundleError(VsslError):
    """A bundle that can't be trusted or read: a changed byte, an unknown schema, a path outside the directory."""

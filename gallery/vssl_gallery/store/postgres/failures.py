"""What went wrong in the database, as errors of galleries."""

import psycopg
from psycopg_pool import PoolTimeout

from vssl.errors import UsageError, VsslError
from vssl_gallery.errors import GalleryError, InvalidRows, StoreFull, StoreUnavailable, UnknownGallery

_PASSES = ("08", "57P01", "57P02", "57P03", "53300", "40001", "40P01")
"""States after which the same request may succeed: no connection, shutting down or starting, no place, a conflict."""

READ_ONLY = "25006"
_REFUSED = ("28", "3D000", "42501")
"""States that only the operator can fix: password, no such database, no right to do that."""


def passes(error: Exception) -> bool:
    """Whether another connection, or the same a moment later, may do what this one could not."""
    if isinstance(error, PoolTimeout | psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # the connection broke, or there was none
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_PASSES)


def named(error: Exception, address: str) -> VsslError:
    """The error to raise for one of psycopg."""
    state = getattr(error, "sqlstate", None) or ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if state == READ_ONLY:
        return StoreUnavailable(f"{address}: this server is a replica, which only reads; name the primary to write")
    if state in ("0A000", "58P01") and "extension" in reason:
        return UsageError(f"{address}: this PostgreSQL has no pgvector; install its extension on the server")
    if state == "53100":
        return StoreFull(f"{address}: the database's disk is full; what was acknowledged is kept ({reason})")
    if state == "57014":
        return StoreUnavailable(f"{address}: the database took too long, and the request was given up ({reason})")
    if state == "42P01":
        return UnknownGallery(f"{address}: the gallery is gone; somebody dropped it")
    if state.startswith(_REFUSED):
        return UsageError(f"{address}: the database refuses: {reason}")
    if state.startswith("22"):
        return InvalidRows(f"the database can't hold a value: {reason}")
    if state.startswith("42"):  # a statement of ours that this server does not understand
        return GalleryError(f"{address}: the database refuses a statement: {reason}")
    return StoreUnavailable(f"{address}: no connection to the database; nothing is lost, try again ({reason})")
